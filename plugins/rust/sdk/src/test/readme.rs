//! The examples of a README are promises.

use serde_json::{Map, Value};

use super::World;
use crate::Plugin;

/// Configures the plugin with every example of its README that stands between "```toml" and "```", as it is written:
/// a whole `[[plugin]]`, or a `[plugin.config]` alone. The tables that the grants of one of them name are there, and empty.
///
/// # Panics
/// If there is no example, or one is not TOML or not taken.
pub fn readme_examples<P: Plugin>(readme: &str) {
    let texts = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let examples: Vec<Value> = texts
        .map(|text| toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
        .collect();
    assert!(!examples.is_empty(), "the README has no example");
    let plugins: Vec<&Value> = examples.iter().filter_map(plugin).collect();
    assert!(!plugins.is_empty(), "no example of the README has a [plugin]");
    let tables = plugins.iter().filter_map(|plugin| plugin["grants"]["lookup"].as_array());
    let tables: Vec<&str> = tables.flatten().filter_map(Value::as_str).collect();
    for plugin in plugins {
        let config = plugin.get("config").cloned();
        let world = World::new().config(config.unwrap_or_else(|| Value::Object(Map::new())));
        let world = tables.iter().fold(world, |world, table| world.table(table, &[]));
        if let Err(error) = P::configure(&world.host()) {
            panic!("{error}\n{plugin}");
        }
    }
}

/// The first of `[[plugin]]`, or `[plugin]`.
fn plugin(example: &Value) -> Option<&Value> {
    let plugin = example.get("plugin")?;
    Some(plugin.get(0).unwrap_or(plugin))
}
