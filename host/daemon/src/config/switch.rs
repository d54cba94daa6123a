//! Turns a plugin of the configuration file on or off by one word, everything else untouched octet for octet.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;

/// The text with `enabled = …` at this plugin, checked as a whole.
///
/// # Errors
/// If there is no such plugin, the result has faults, or something else would change with it.
pub(crate) fn switch(file: &Path, text: &str, plugin: &str, enabled: bool) -> Result<String> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.first() {
        bail!("{}: {}", file.display(), error.message());
    }
    let found = find(table.get_ref(), plugin).ok_or_else(|| {
        let names: Vec<&str> = plugins(table.get_ref()).filter_map(|(_, name)| name).collect();
        match names.as_slice() {
            [] => anyhow!("{} has no [[plugin]]", file.display()),
            names => {
                anyhow!(
                    "no plugin \"{plugin}\" in {}; there are {}",
                    file.display(),
                    names.join(", ")
                )
            }
        }
    })?;
    let mut changed = text.to_owned();
    match found.get("enabled") {
        Some(word) => changed.replace_range(word.span(), &enabled.to_string()),
        None if enabled => {}
        None => {
            let name = found.get("name").context("it was found by its name")?.span();
            changed.insert_str(name.end, &separated(text, name.end, "enabled = false"));
        }
    }
    let config = Config::parse(file, &changed).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow!("{}", lines.join("\n"))
    })?;
    let is = config.plugins.iter().find(|one| one.name == plugin).map(|one| one.enabled);
    if is != Some(enabled) {
        bail!(
            "{}: this [[plugin]] is written in a way that can't be changed from here; set enabled = {enabled} by hand",
            file.display()
        );
    }
    Ok(changed)
}

/// A key that comes after the value that ends at `end`: on its own line, or in the same inline table.
fn separated(text: &str, end: usize, key: &str) -> String {
    let rest = text[end..].trim_start_matches([' ', '\t']);
    if rest.starts_with([',', '}']) { format!(", {key}") } else { format!("\n{key}") }
}

fn find<'a>(table: &'a DeTable<'a>, name: &str) -> Option<&'a DeTable<'a>> {
    plugins(table).find(|(_, found)| *found == Some(name)).map(|(table, _)| table)
}

fn plugins<'a>(
    table: &'a DeTable<'a>,
) -> impl Iterator<Item = (&'a DeTable<'a>, Option<&'a str>)> + 'a {
    let list = table.get("plugin").and_then(|list| list.get_ref().as_array());
    list.into_iter().flat_map(|list| list.iter()).filter_map(|plugin: &Spanned<DeValue<'_>>| {
        let table = plugin.get_ref().as_table()?;
        Some((table, table.get("name").and_then(|name| name.get_ref().as_str())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "hostname = \"mx.example.org\"\n[[listener]]\nname = \"mx\"\nrole = \"mx\"\naddress = \"127.0.0.1:25\"\n";

    #[track_caller]
    fn check(plugin: &str, enabled: bool, before: &str, after: &str) {
        let text = format!("{HEAD}{before}");
        let changed = switch(Path::new("g.toml"), &text, plugin, enabled);
        assert_eq!(changed.unwrap_or_else(|error| panic!("{error}")), format!("{HEAD}{after}"));
    }

    #[test]
    fn one_word_is_changed_and_nothing_else() {
        let one =
            "# mine\n[[plugin]] # first\nname = 'a' # the one\ncomponent = \"bundled:greylist\"\n";
        let off = "# mine\n[[plugin]] # first\nname = 'a'\nenabled = false # the one\ncomponent = \"bundled:greylist\"\n";
        check("a", false, one, off);
        check("a", true, one, one);
        check("a", true, off, &off.replace("false", "true"));
        check("a", false, off, off);
        let two = format!("{one}[plugin.grants]\nkv = true\n{}", one.replace("'a'", "\"b\""));
        let two_off = format!("{one}[plugin.grants]\nkv = true\n{}", off.replace("'a'", "\"b\""));
        check("b", false, &two, &two_off);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let one = format!("{HEAD}[[plugin]]\nname = \"a\"\ncomponent = \"bundled:greylist\"\n");
        let said = |name, text: &str| {
            switch(Path::new("g.toml"), text, name, false).expect_err("a fault").to_string()
        };
        assert_eq!(said("b", &one), "no plugin \"b\" in g.toml; there are a");
        assert_eq!(said("a", HEAD), "g.toml has no [[plugin]]");
        let faulty = one.replace("bundled:greylist", "bundled:none");
        assert!(
            switch(Path::new("g.toml"), &faulty, "a", true).is_err(),
            "what would not load is not turned on"
        );
        assert!(switch(Path::new("g.toml"), &faulty, "a", false).is_ok(), "and can be turned off");
    }
}
