//! What is known of a key: the one description from which it is read, suggested, and documented.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::unit::{show_duration, show_size};

/// A key of the configuration file.
pub(crate) struct Key {
    /// Where it stands: `limits.body`. For a key of a list's entries: `federation.peers.domain`.
    pub(crate) path: &'static str,
    /// What it may hold.
    pub(crate) kind: Kind,
    /// What holds when it is not there.
    pub(crate) absence: Absence,
    /// What it means and what goes wrong, line by line; an empty line ends a paragraph.
    pub(crate) text: &'static [&'static str],
}

/// What a key may hold.
pub(crate) enum Kind {
    /// A string; what kind of one.
    Text(&'static str),
    /// A list of strings; what kind of ones.
    Texts(&'static str),
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A whole number.
    Count(RangeInclusive<u64>),
    /// Bytes: a whole number, or a string with a unit.
    Size(RangeInclusive<u64>),
    /// A string with a unit, in this range of milliseconds.
    Duration(RangeInclusive<u64>),
}

/// What holds when a key is not there.
pub(crate) enum Absence {
    /// Nothing: it must be there. With an example, as TOML.
    Required(&'static str),
    /// This value, as TOML.
    Default(&'static str),
    /// Something that is no value of its own: what, and an example as TOML.
    Means(&'static str, &'static str),
}

/// A table of the file, or a list of tables.
pub(crate) struct Section {
    /// Its name; empty for the top of the file.
    pub(crate) path: &'static str,
    /// Whether it is a list: written `[[…]]`, once for each entry.
    pub(crate) list: bool,
    /// What its keys are about.
    pub(crate) text: &'static [&'static str],
}

impl Key {
    /// The section that it is in.
    pub(crate) fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within the section.
    pub(crate) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// A value that it may have, as TOML: the default if there is one.
    pub(crate) fn example(&self) -> &'static str {
        match self.absence {
            Absence::Required(example) | Absence::Default(example) | Absence::Means(_, example) => example,
        }
    }
}

impl Kind {
    /// What it may hold, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Text(what) => (*what).to_owned(),
            Self::Texts(what) => format!("list of {what}"),
            Self::Choice(words) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
            Self::Count(range) => format!("number, {} to {}", range.start(), range.end()),
            Self::Size(range) => {
                format!("size, {} to {}", show_size(*range.start()), show_size(*range.end()))
            }
            Self::Duration(range) => {
                let show = |millis: &u64| show_duration(Duration::from_millis(*millis));
                format!("duration, {} to {}", show(range.start()), show(range.end()))
            }
        }
    }
}

/// Lines of a doc comment as paragraphs.
pub(crate) fn paragraphs(text: &[&str]) -> Vec<String> {
    text.split(|line| line.trim().is_empty())
        .filter(|lines| !lines.is_empty())
        .map(|lines| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "))
        .collect()
}
