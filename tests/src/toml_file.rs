//! A TOML file that is edited as an operator does: values change, comments stay, and the file on
//! disk is replaced at once, so that nobody who watches it ever reads half of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml_edit::{DocumentMut, Item, Table, Value};

/// A file and its parsed text.
#[derive(Clone, Debug)]
pub struct TomlFile {
    path: PathBuf,
    document: DocumentMut,
}

// === impl TomlFile ===

impl TomlFile {
    /// Takes `text` for the file at `path`; nothing is written yet.
    ///
    /// # Errors
    ///
    /// When the text is no TOML.
    pub fn new(path: impl Into<PathBuf>, text: &str) -> Result<Self> {
        let path = path.into();
        let document = text
            .parse()
            .with_context(|| format!("bad TOML for {}", path.display()))?;
        Ok(Self { path, document })
    }

    /// An empty text that has no place yet; [`Self::at`] gives it one.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            path: PathBuf::new(),
            document: DocumentMut::new(),
        }
    }

    /// The same text for another place.
    #[must_use]
    pub fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = path.into();
        self
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is no TOML.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        Self::new(path, &text)
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text as it would be written now.
    #[must_use]
    pub fn text(&self) -> String {
        self.document.to_string()
    }

    /// Sets the value at a dotted key path, making the tables on the way.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let (tables, name) = key.rsplit_once('.').unwrap_or(("", key));
        let table = tables
            .split('.')
            .filter(|name| !name.is_empty())
            .fold(self.document.as_table_mut(), |table, name| {
                child(table, name)
            });
        let mut value = value.into();
        if let Some(old) = table.get(name).and_then(Item::as_value) {
            // Its comment stays.
            *value.decor_mut() = old.decor().clone();
        }
        table.insert(name, Item::Value(value));
        self
    }

    /// Takes out the value or table at a dotted key path; nothing happens if there is none.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        let (tables, name) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = Some(self.document.as_table_mut());
        for name in tables.split('.').filter(|name| !name.is_empty()) {
            table = table
                .and_then(|table| table.get_mut(name))
                .and_then(Item::as_table_mut);
        }
        if let Some(table) = table {
            table.remove(name);
        }
        self
    }

    /// Writes the text beside the file and renames it over it.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn save(&self) -> Result<()> {
        replace(&self.path, &self.text())
    }

    /// Puts any text in the file's place, valid or not, and remembers nothing of it.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn overwrite(&self, text: &str) -> Result<()> {
        replace(&self.path, text)
    }
}

fn child<'a>(table: &'a mut Table, name: &str) -> &'a mut Table {
    let mut empty = Table::new();
    empty.set_implicit(true);
    let item = table.entry(name).or_insert(Item::Table(empty));
    if !item.is_table() {
        *item = Item::Table(std::mem::take(item).into_table().unwrap_or_default());
    }
    let Item::Table(table) = item else {
        unreachable!("made a table just above")
    };
    table
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("toml.new");
    fs::write(&beside, text).with_context(|| format!("{}", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_changes_and_its_comment_stays() {
        let text = "# why\n[models.digits.versions.1]\nweight = 90 # most of it\n";
        let mut file = TomlFile::new("a.toml", text).unwrap();
        file.set("models.digits.versions.1.weight", 50);
        assert_eq!(file.text(), text.replace("90", "50"));
    }

    #[test]
    fn tables_are_made_on_the_way_and_taken_out_again() {
        let mut file = TomlFile::new("a.toml", "[listen]\n").unwrap();
        file.set("models.digits.versions.2.weight", 10)
            .set("grace_ms", 5);
        assert!(
            file.text()
                .contains("[models.digits.versions.2]\nweight = 10"),
            "{}",
            file.text()
        );
        file.remove("models.digits.versions.2")
            .remove("no.such.table");
        assert!(!file.text().contains("weight"), "{}", file.text());
        assert!(file.text().parse::<DocumentMut>().is_ok());
    }

    #[test]
    fn a_saved_file_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = TomlFile::new(folder.path().join("a.toml"), "a = 1\n").unwrap();
        file.set("a", 2).save().unwrap();
        assert_eq!(TomlFile::open(file.path()).unwrap().text(), "a = 2\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
