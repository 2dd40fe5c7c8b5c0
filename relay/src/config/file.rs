//! The configuration file as it is written: its keys known, its values not yet looked at.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::Key;
use super::keys::{ALL, SECTIONS};
use super::problem::{Findings, Problem};
use super::suggest::suggest;

/// The values of a file, by the path of their keys.
#[derive(Debug)]
pub(super) struct File<'i> {
    /// Everything that is not in a list of tables.
    pub(super) top: Table<'i>,
    /// The entries of lists, by the list's name.
    pub(super) lists: BTreeMap<&'static str, Vec<Table<'i>>>,
}

/// Values of the file, or of one entry of a list in it.
#[derive(Debug, Default)]
pub(super) struct Table<'i> {
    /// Which entry of a list: the list's name, and its number, counted from 1.
    pub(super) entry: Option<(&'static str, usize)>,
    /// Where the entry begins.
    pub(super) line: Option<usize>,
    /// The values.
    pub(super) values: BTreeMap<&'static str, Value<'i>>,
}

/// A value and the line it is on.
#[derive(Debug)]
pub(super) struct Value<'i> {
    /// Counted from 1.
    pub(super) line: usize,
    /// What is written there.
    pub(super) value: DeValue<'i>,
}

impl<'i> File<'i> {
    /// Reads TOML and sorts its values. Keys that are unknown, and values where a section is meant or the other way
    /// round, become problems; so does the first thing that is not TOML, and then there is nothing more to say about the file.
    pub(super) fn parse(text: &'i str, findings: &mut Findings) -> Option<Self> {
        let (root, errors) = DeTable::parse_recoverable(text);
        // After the first, others are guesses.
        if let Some(error) =
            errors.iter().min_by_key(|error| error.span().map_or(usize::MAX, |span| span.start))
        {
            let what = error.message().replace('\n', ", ");
            let is_open = what.contains("unclosed array") || what.contains("between array elements");
            let hint = if is_open { "; is a `]` missing further up?" } else { "" };
            findings.problems.push(Problem {
                key: None,
                line: error.span().map(|span| line(text, span.start)),
                text: format!("this is not TOML: {what}{hint}"),
            });
            return None;
        }
        let mut file = Self { top: Table::default(), lists: BTreeMap::new() };
        let mut sorter = Sorter { text, findings, lists: &mut file.lists };
        sorter.sort(root.into_inner(), "", &mut file.top);
        Some(file)
    }
}

impl Table<'_> {
    /// The key's name in problems.
    pub(super) fn name(&self, key: &Key) -> String {
        self.place(key.path)
    }

    fn place(&self, path: &str) -> String {
        match self.entry {
            Some((list, number)) => match path.strip_prefix(list) {
                Some(rest) => format!("{list}[{number}]{rest}"),
                None => path.to_owned(),
            },
            None => path.to_owned(),
        }
    }
}

struct Sorter<'a, 'i> {
    text: &'i str,
    findings: &'a mut Findings,
    lists: &'a mut BTreeMap<&'static str, Vec<Table<'i>>>,
}

impl<'i> Sorter<'_, 'i> {
    fn sort(&mut self, table: DeTable<'i>, section: &str, into: &mut Table<'i>) {
        for (name, value) in table {
            let path = match section {
                "" => name.get_ref().to_string(),
                _ => format!("{section}.{}", name.get_ref()),
            };
            let at = line(self.text, name.span().start);
            if let Some(key) = ALL.iter().find(|key| key.path == path) {
                into.values.insert(key.path, Value { line: at, value: value.into_inner() });
            } else if let Some(known) = SECTIONS.iter().find(|known| known.path == path) {
                match (known.list, value.into_inner()) {
                    (false, DeValue::Table(inner)) => self.sort(inner, known.path, into),
                    (true, DeValue::Array(entries)) => self.sort_list(entries, known.path, at),
                    (false, _) => {
                        self.problem(
                            into,
                            &path,
                            at,
                            format!("is a section: write [{path}] and its keys below"),
                        );
                    }
                    (true, _) => {
                        self.problem(
                            into,
                            &path,
                            at,
                            format!("is a list: write [[{path}]] before each entry"),
                        );
                    }
                }
            } else {
                let text = match suggest(&path) {
                    Some(near) => format!("is unknown; did you mean {near}?"),
                    None => "is unknown".to_owned(),
                };
                self.problem(into, &path, at, text);
            }
        }
    }

    fn sort_list(
        &mut self,
        entries: impl IntoIterator<Item = Spanned<DeValue<'i>>>,
        list: &'static str,
        at: usize,
    ) {
        let mut tables = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let begin = line(self.text, entry.span().start);
            let mut table = Table { entry: Some((list, index + 1)), line: Some(begin), ..Table::default() };
            match entry.into_inner() {
                DeValue::Table(inner) => self.sort(inner, list, &mut table),
                _ => {
                    let text = format!("is not a table: write [[{list}]] before each entry");
                    self.problem(&table, list, at, text);
                }
            }
            tables.push(table);
        }
        self.lists.insert(list, tables);
    }

    fn problem(&mut self, table: &Table<'i>, path: &str, line: usize, text: String) {
        let key = Some(table.place(path));
        self.findings.problems.push(Problem { key, line: Some(line), text });
    }
}

fn line(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
