//! Takes values out of a file one key at a time, and says what is wrong with each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::file::Table;
use super::key::{Absence, Key, Kind};
use super::problem::{Findings, Problem};
use super::suggest::near;
use super::unit::{parse_duration, parse_size, show_duration, show_size};

/// Reads the values of one table. A value that is wrong becomes a problem, and the default stands in for it, so that
/// reading goes on to the next problem.
pub(super) struct Reader<'a, 'i> {
    table: &'a Table<'i>,
    /// What relative paths are relative to.
    directory: &'a Path,
    findings: &'a mut Findings,
}

impl<'a, 'i> Reader<'a, 'i> {
    pub(super) const fn new(table: &'a Table<'i>, directory: &'a Path, findings: &'a mut Findings) -> Self {
        Self { table, directory, findings }
    }

    /// Whether the file itself says something about this key.
    pub(super) fn is_set(&self, key: &Key) -> bool {
        self.table.values.contains_key(key.path)
    }

    /// Notes that something is wrong with a key's value. The text completes a sentence that begins with the key.
    pub(super) fn problem(&mut self, key: &Key, text: impl Into<String>) {
        let problem = self.at(key, text.into());
        self.findings.problems.push(problem);
    }

    /// Notes that a key's value is odd.
    pub(super) fn warning(&mut self, key: &Key, text: impl Into<String>) {
        let warning = self.at(key, text.into());
        self.findings.warnings.push(warning);
    }

    /// A whole number, or a size in bytes.
    pub(super) fn number(&mut self, key: &Key) -> u64 {
        self.with_default(key, |value| number(&key.kind, value))
    }

    /// A whole number that need not be there.
    pub(super) fn optional_number<T: TryFrom<u64>>(&mut self, key: &Key) -> Option<T> {
        let number = self.optional(key, |value| number(&key.kind, value));
        number.and_then(|number| T::try_from(number).ok())
    }

    /// The same for what lies in memory.
    pub(super) fn length(&mut self, key: &Key) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }

    /// A duration.
    pub(super) fn duration(&mut self, key: &Key) -> Duration {
        self.with_default(key, |value| duration(&key.kind, value))
    }

    /// What one of a few words stands for.
    pub(super) fn choice<T: Copy>(&mut self, key: &Key, words: &[(&'static str, T)]) -> T {
        self.with_default(key, |value| choice(words, value))
    }

    /// A string that is there or has a default, as `parse` understands it.
    pub(super) fn text<T>(&mut self, key: &Key, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        self.optional(key, |value| parse(string(value)?))
    }

    /// A path, absolute.
    pub(super) fn path(&mut self, key: &Key) -> Option<PathBuf> {
        let directory = self.directory;
        self.text(key, |path| match path {
            "" => Err("is empty, but must be a path".to_owned()),
            _ => Ok(directory.join(path)),
        })
    }

    /// A list without repetitions, as `parse` understands each of its strings.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        key: &Key,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        const MOST: usize = 64;
        let written = self.optional(key, |value| match value {
            DeValue::Array(entries) => {
                Ok(entries.iter().map(|entry| string(entry.get_ref()).map(str::to_owned)).collect::<Vec<_>>())
            }
            other => Err(wrong_type(other, "a list of strings, such as [\"…\", \"…\"]")),
        });
        let mut list = Vec::new();
        for (index, entry) in written.into_iter().flatten().enumerate() {
            let number = index + 1;
            if number > MOST {
                self.problem(key, format!("has more than {MOST} entries"));
                break;
            }
            match entry.and_then(|text| parse(&text).map(|parsed| (text, parsed))) {
                Ok((text, parsed)) if list.contains(&parsed) => {
                    self.problem(key, format!("has {text:?} twice"));
                }
                Ok((_, parsed)) => list.push(parsed),
                Err(text) => self.problem(key, format!("is a list whose entry {number} {text}")),
            }
        }
        list
    }

    fn at(&self, key: &Key, text: String) -> Problem {
        let line = self.table.values.get(key.path).map(|value| value.line);
        Problem { key: Some(self.table.name(key)), line: line.or(self.table.line), text }
    }

    #[expect(
        clippy::expect_used,
        reason = "a default is a constant, and a test loads a file without any key set"
    )]
    fn with_default<T>(&mut self, key: &Key, convert: impl Fn(&DeValue<'_>) -> Result<T, String>) -> T {
        let written = self.optional(key, &convert);
        written.or_else(|| default(key, &convert)).expect("the key has a default, which is valid")
    }

    /// The value in the file; the default if the key is not there; nothing, and a problem, if either is not usable.
    fn optional<T>(&mut self, key: &Key, convert: impl Fn(&DeValue<'_>) -> Result<T, String>) -> Option<T> {
        match self.table.values.get(key.path) {
            Some(written) => match convert(&written.value) {
                Ok(value) => Some(value),
                Err(text) => {
                    self.problem(key, text);
                    None
                }
            },
            None => {
                if let Absence::Required(example) = key.absence {
                    self.problem(key, format!("is missing; write, for instance, {} = {example}", key.name()));
                }
                default(key, convert)
            }
        }
    }
}

fn default<T>(key: &Key, convert: impl Fn(&DeValue<'_>) -> Result<T, String>) -> Option<T> {
    let Absence::Default(text) = key.absence else {
        return None;
    };
    convert(DeValue::parse(text).ok()?.get_ref()).ok()
}

fn string<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    match value {
        DeValue::String(text) => Ok(text),
        other => Err(wrong_type(other, "a string in quotation marks")),
    }
}

fn wrong_type(value: &DeValue<'_>, wanted: &str) -> String {
    let is = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fractional number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    };
    format!("is {is}, but must be {wanted}")
}

fn number(kind: &Kind, value: &DeValue<'_>) -> Result<u64, String> {
    let range = match kind {
        Kind::Count(range) | Kind::Size(range) => range,
        _ => return Err("is not read as a number".to_owned()),
    };
    let size = matches!(kind, Kind::Size(_));
    let number = match value {
        DeValue::Integer(digits) => i128::from_str_radix(digits.as_str(), digits.radix())
            .map_err(|_| "is too large a number".to_owned())?,
        DeValue::String(text) if size => parse_size(text).map_err(|text| format!("is {text}"))?.into(),
        other if size => {
            return Err(wrong_type(other, "a number of bytes or a string such as \"128 KiB\""));
        }
        other => return Err(wrong_type(other, "a whole number, without quotation marks")),
    };
    match u64::try_from(number) {
        Ok(number) if range.contains(&number) => Ok(number),
        _ if size => {
            let shown = u64::try_from(number).map_or_else(|_| number.to_string(), show_size);
            let (least, most) = (show_size(*range.start()), show_size(*range.end()));
            Err(format!("is {shown}, but must be from {least} to {most}"))
        }
        _ => Err(format!("is {number}, but must be from {} to {}", range.start(), range.end())),
    }
}

fn duration(kind: &Kind, value: &DeValue<'_>) -> Result<Duration, String> {
    let Kind::Duration(range) = kind else {
        return Err("is not read as a duration".to_owned());
    };
    let duration = match value {
        DeValue::String(text) => parse_duration(text).map_err(|text| format!("is {text}"))?,
        other => return Err(wrong_type(other, "a string with a unit, such as \"30 s\"")),
    };
    let (least, most) = (Duration::from_millis(*range.start()), Duration::from_millis(*range.end()));
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    let [is, least, most] = [duration, least, most].map(show_duration);
    Err(format!("is {is}, but must be from {least} to {most}"))
}

fn choice<T: Copy>(words: &[(&'static str, T)], value: &DeValue<'_>) -> Result<T, String> {
    let text = string(value)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    let known = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
    Err(match near(text, words.iter().map(|(word, _)| *word)) {
        Some(word) => format!("is {text:?}, but must be {known}; did you mean \"{word}\"?"),
        None => format!("is {text:?}, but must be {known}"),
    })
}
