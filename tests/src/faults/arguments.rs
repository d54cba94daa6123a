//! `--name value` on a command line, and nothing else.

use std::collections::BTreeMap;
use std::str::FromStr;

/// What stands behind the subcommand.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    values: BTreeMap<String, String>,
}

impl Arguments {
    /// Reads pairs. An odd word, or one without `--`, is a fault.
    pub fn read(words: &[String]) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word}: not an option"))?;
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            values.insert(name.to_owned(), value.clone());
        }
        Ok(Self { values })
    }

    /// The words of an option, or what stands for it when it is absent.
    pub fn word(&mut self, name: &str, default: &str) -> String {
        self.values.remove(name).unwrap_or_else(|| default.to_owned())
    }

    /// A number, or what stands for it when it is absent.
    pub fn number<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        match self.values.remove(name) {
            Some(text) => text.parse().map_err(|_| format!("--{name} {text}: not a number")),
            None => Ok(default),
        }
    }

    /// A fault if an option is left that nobody asked for.
    pub fn finish(self) -> Result<(), String> {
        match self.values.keys().next() {
            Some(name) => Err(format!("--{name}: no such option here")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    #[test]
    fn pairs_are_read_and_leftovers_are_faults() {
        let read = |words: &[&str]| {
            Arguments::read(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
        };
        let mut arguments = read(&["--cuts", "20", "--fs", "xfs"]).unwrap();
        assert_eq!(arguments.number("cuts", 1), Ok(20));
        assert_eq!(arguments.number("seed", 7), Ok(7));
        assert!(arguments.clone().finish().is_err(), "--fs was not asked for");
        assert_eq!(arguments.word("fs", "ext4"), "xfs");
        assert_eq!(arguments.finish(), Ok(()));
        assert!(read(&["--cuts"]).is_err());
        assert!(read(&["cuts", "20"]).is_err());
    }
}
