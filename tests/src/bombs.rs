//! Components that are small and keep a compiler busy for ever, or make it ask for all memory. Each is written where it is
//! used: what makes it grow is the only thing in it.

use std::fmt::Write as _;

/// A name, and the octets of a component.
pub struct Bomb {
    /// What grows.
    pub name: &'static str,
    /// The component.
    pub wasm: Vec<u8>,
}

/// Seven ways to keep a compiler from its end. Their sizes are such that a machine of today needs many times the ten
/// seconds or the two gibibytes that the server allows by default.
pub fn all() -> Vec<Bomb> {
    vec![
        bomb("nested-blocks", &nested(30_000)),
        bomb("one-huge-function", &body("", &straight(400_000))),
        bomb("huge-branch-tables", &branch_tables(600, 4_000)),
        bomb("live-locals", &locals(12_000)),
        bomb("many-exports", &exports(400_000)),
        bomb("many-functions", &functions(400_000)),
        bomb("loops-in-loops", &loops(20_000)),
    ]
}

fn bomb(name: &'static str, module: &str) -> Bomb {
    let text = format!("(component (core module $m {module}) (core instance (instantiate $m)))");
    let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    Bomb { name, wasm }
}

/// A function of one parameter with this body.
fn body(locals: &str, code: &str) -> String {
    format!("(memory 1) (func (export \"f\") (param i32) (result i32) {locals} {code} local.get 0)")
}

/// `if` in `if` in `if`, each with a value that lives to the end.
fn nested(depth: usize) -> String {
    let mut code = String::new();
    for _ in 0..depth {
        code.push_str("local.get 0 if local.get 0 i32.const 3 i32.add local.set 0 ");
    }
    code.push_str(&"end ".repeat(depth));
    body("", &code)
}

/// One block of instructions that all depend on each other.
fn straight(steps: usize) -> String {
    let mut code = String::new();
    for step in 0..steps {
        let _ = write!(
            code,
            "local.get 0 i32.load offset={} local.get 0 i32.mul local.set 0 ",
            step % 60_000
        );
    }
    code
}

/// Tables of jumps, each to every block around it.
fn branch_tables(tables: usize, blocks: usize) -> String {
    let mut code = "block ".repeat(blocks);
    let targets: String = (0..blocks).fold(String::new(), |mut all, target| {
        let _ = write!(all, "{target} ");
        all
    });
    for _ in 0..tables {
        let _ = write!(code, "block local.get 0 br_table {targets} 0 end ");
    }
    for _ in 0..blocks {
        code.push_str("local.get 0 i32.const 1 i32.add local.set 0 end ");
    }
    body("", &code)
}

/// Very many values that all live across very many calls: nothing for the registers to hold.
fn locals(count: usize) -> String {
    let mut code = String::new();
    for local in 1..count {
        let _ = write!(code, "local.get 0 i32.load offset={local} local.set {local} ");
    }
    for local in 1..count {
        let _ = write!(
            code,
            "block local.get 0 call 0 br_if 0 local.get {local} local.get {} i32.add local.set 0 end ",
            count - local
        );
    }
    body(&format!("(local {})", "i32 ".repeat(count)), &code)
}

fn exports(count: usize) -> String {
    (0..count).fold(String::new(), |mut all, n| {
        let _ = write!(all, "(func (export \"{n:x}\"))");
        all
    })
}

fn functions(count: usize) -> String {
    let mut all = String::from("(memory 1) (table funcref (elem");
    for n in 0..count {
        let _ = write!(all, " {n}");
    }
    all.push_str("))");
    for n in 0..count {
        let _ = write!(
            all,
            "(func (param i32) (result i32) local.get 0 i32.load offset={n} local.get 0 i32.mul call {})",
            (n * 7) % count
        );
    }
    all
}

/// Loops around loops, every value changed in each of them.
fn loops(depth: usize) -> String {
    let mut code = "loop ".repeat(depth);
    for level in 0..depth {
        let _ = write!(
            code,
            "local.get 0 i32.const {level} i32.xor local.tee 0 local.get 1 i32.add local.tee 1 br_if 0 end "
        );
    }
    body("(local i32)", &code)
}
