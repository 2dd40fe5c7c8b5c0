//! The description of the keys as a file for an operator to edit.

use std::fmt::Write;

use super::key::{Absence, Key, paragraphs};
use super::keys::{ALL, SECTIONS};

/// Columns of a comment in a file.
const WIDTH: usize = 100;

/// A configuration file in which every key is explained. Keys for which `value` has something (as TOML) are set to
/// it; the others are commented out and show their default or an example. A section without a set key in it
/// is commented out if it is a list.
pub(crate) fn toml(value: impl Fn(&Key) -> Option<String>) -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let keys: Vec<_> = ALL.iter().filter(|key| key.section() == section.path).collect();
        let set = keys.iter().any(|key| value(key).is_some());
        if !section.path.is_empty() {
            out.push('\n');
        }
        comment(&mut out, section.text);
        match (section.list, set) {
            (true, true) => line(&mut out, &format!("[[{}]]", section.path)),
            (true, false) => line(&mut out, &format!("# [[{}]]", section.path)),
            (false, _) if section.path.is_empty() => {}
            (false, _) => line(&mut out, &format!("[{}]", section.path)),
        }
        for key in keys {
            out.push('\n');
            comment(&mut out, key.text);
            comment(&mut out, &[&about(key)]);
            match value(key) {
                Some(value) => line(&mut out, &format!("{} = {value}", key.name())),
                None => line(&mut out, &format!("# {} = {}", key.name(), key.example())),
            }
        }
    }
    out
}

fn comment(out: &mut String, text: &[&str]) {
    for (index, paragraph) in paragraphs(text).iter().enumerate() {
        if index > 0 {
            line(out, "#");
        }
        let mut current = String::from("#");
        for word in paragraph.split(' ') {
            if current.chars().count() + 1 + word.chars().count() > WIDTH && current.len() > 1 {
                line(out, &current);
                current.truncate(1);
            }
            let _ = write!(current, " {word}");
        }
        line(out, &current);
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn about(key: &Key) -> String {
    format!("({}. {})", capital(&key.kind.describe()), capital(&default(key)))
}

pub(super) fn default(key: &Key) -> String {
    match key.absence {
        Absence::Required(_) => "required.".to_owned(),
        Absence::Default(value) => format!("default: `{value}`."),
        Absence::Means(what, _) => format!("if absent: {what}."),
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
