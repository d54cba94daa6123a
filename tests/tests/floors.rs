//! The table «Floors» of `host/README.md` is true: each room has its row, and depends on what the row
//! allows and on nothing that is another room's alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use tests::root;
use toml::Table;

/// One row: floor, room, what it may use, what it alone may use.
#[derive(Debug, Default, PartialEq)]
struct Row {
    floor: u8,
    room: String,
    may_use: BTreeSet<String>,
    alone: BTreeSet<String>,
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let rows = rows(&fs::read_to_string(root().join("host/README.md")).unwrap());
    let manifests: BTreeMap<String, Table> = rows.iter().map(|row| manifest(&row.room)).collect();
    let faults = faults(&rows, &manifests);
    assert!(faults.is_empty(), "see the table in host/README.md:\n{}", faults.join("\n"));
}

#[test]
fn every_room_has_its_row() {
    let rows = rows(&fs::read_to_string(root().join("host/README.md")).unwrap());
    let named: BTreeSet<String> = rows.into_iter().map(|row| row.room).collect();
    let folders = fs::read_dir(root().join("host")).unwrap().map(|entry| entry.unwrap());
    let there: BTreeSet<String> = folders
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(named, there);
}

#[test]
fn the_table_itself_knows_no_neighbours_and_no_upper_floors() {
    let rows = rows(&fs::read_to_string(root().join("host/README.md")).unwrap());
    let floors: BTreeMap<&str, u8> =
        rows.iter().map(|row| (row.room.as_str(), row.floor)).collect();
    for row in &rows {
        for used in &row.may_use {
            let floor = floors.get(used.as_str()).unwrap_or_else(|| panic!("no room {used}"));
            assert!(*floor < row.floor, "{} may not use {used}: it is not below", row.room);
        }
    }
}

#[test]
fn a_forbidden_dependency_is_found() {
    let table = "| 0 | `low` | | | |\n| 1 | `left` | | `low` | `rustls` |\n| 1 | `right` | | | |";
    let rows = rows(table);
    let check = |room: &str, manifest: &str, expected: usize| {
        let manifests = BTreeMap::from([(room.to_owned(), manifest.parse().unwrap())]);
        assert_eq!(faults(&rows, &manifests).len(), expected, "{room}: {manifest}");
    };
    check("left", "[dependencies]\nlow = '1'\nrustls = '1'\nbytes = '1'", 0);
    check("left", "[dependencies]\nright = '1'", 1);
    check("right", "[dependencies]\nlow = '1'", 1);
    check("right", "[dependencies]\nrustls.workspace = true", 1);
    check("right", "[dependencies]\ntls = { package = 'rustls' }", 1);
    check("right", "[target.'cfg(unix)'.dependencies]\nrustls = '1'", 1);
    check("right", "[dev-dependencies]\nrustls = '1'", 0);
}

/// All that is wrong, in words.
fn faults(rows: &[Row], manifests: &BTreeMap<String, Table>) -> Vec<String> {
    let rooms: BTreeSet<&String> = rows.iter().map(|row| &row.room).collect();
    let owners: BTreeMap<&String, &String> =
        rows.iter().flat_map(|row| row.alone.iter().map(move |name| (name, &row.room))).collect();
    let mut faults = Vec::new();
    for row in rows {
        let Some(manifest) = manifests.get(&row.room) else { continue };
        for name in dependencies(manifest) {
            if rooms.contains(&name) && !row.may_use.contains(&name) {
                faults.push(format!("{} uses the room {name}", row.room));
            }
            if owners.get(&name).is_some_and(|owner| **owner != row.room) {
                faults
                    .push(format!("{} uses {name}, which is {}'s alone", row.room, owners[&name]));
            }
        }
    }
    faults
}

/// What a crate links, on any target. What only its tests or its build script use is not in it.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let own = manifest.get("dependencies").and_then(|value| value.as_table());
    let targets = manifest.get("target").and_then(|value| value.as_table());
    let of_targets = targets
        .into_iter()
        .flat_map(|table| table.values())
        .filter_map(|target| target.get("dependencies").and_then(|value| value.as_table()));
    own.into_iter()
        .chain(of_targets)
        .flatten()
        .map(|(name, value)| {
            let package = value.get("package").and_then(|package| package.as_str());
            package.unwrap_or(name).to_owned()
        })
        .collect()
}

fn manifest(room: &str) -> (String, Table) {
    let path = root().join("host").join(room).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (room.to_owned(), text.parse().unwrap())
}

fn rows(readme: &str) -> Vec<Row> {
    let cells = |line: &str| line.split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>();
    readme
        .lines()
        .map(cells)
        .filter_map(|cells| {
            let floor = cells.get(1)?.parse().ok()?;
            let room = names(cells.get(2)?).pop_first()?;
            Some(Row { floor, room, may_use: names(cells.get(4)?), alone: names(cells.get(5)?) })
        })
        .collect()
}

/// The names in backquotes in one cell of a Markdown table.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
