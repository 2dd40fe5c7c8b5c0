//! How results are shown to people: aligned, in colours where that helps, and with nothing in them that steers a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;

use postrider_common::Timestamp;

/// Whether colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    colours: bool,
}

/// What a word is to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// To be looked at.
    Odd,
    /// Wrong.
    Bad,
    /// Beside the point.
    Faint,
}

impl Style {
    /// Colours on a terminal, unless `NO_COLOR` is set (<https://no-color.org>) or the terminal knows none.
    pub(super) fn of_stdout() -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colours: std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb }
    }

    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Odd => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    tone: Option<Tone>,
    /// Numbers stand at the right.
    right: bool,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: one_line(&text.into()), tone: None, right: false }
    }

    pub(super) fn number(text: impl std::fmt::Display) -> Self {
        Self { right: true, ..Self::new(format!("{text}")) }
    }

    pub(super) fn toned(self, tone: Tone) -> Self {
        Self { tone: Some(tone), ..self }
    }
}

/// Lines with columns that are as wide as they need to be. The last column takes what it takes.
pub(super) fn table(style: Style, heads: &[&str], rows: &[Vec<Cell>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        cells.chain(heads.get(column).map(|head| head.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let is_right =
        |column: usize| rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.right);
    let mut shown = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = (String, Option<Tone>, bool)>| {
        let last = widths.len().saturating_sub(1);
        for (column, (text, tone, right)) in cells.enumerate() {
            let missing = widths.get(column).copied().unwrap_or(0).saturating_sub(text.chars().count());
            let painted = tone.map_or_else(|| text.clone(), |tone| style.paint(tone, &text));
            let (before, after) = if right { (missing, 0) } else { (0, missing) };
            let after = if column == last { 0 } else { after + 2 };
            shown.push_str(&" ".repeat(before));
            shown.push_str(&painted);
            shown.push_str(&" ".repeat(after));
        }
        shown.truncate(shown.trim_end().len());
        shown.push('\n');
    };
    line(
        &mut heads
            .iter()
            .enumerate()
            .map(|(column, head)| ((*head).to_owned(), Some(Tone::Faint), is_right(column))),
    );
    for row in rows {
        line(&mut row.iter().map(|cell| (cell.text.clone(), cell.tone, cell.right)));
    }
    shown
}

/// `name: value` lines, with the values below each other.
pub(super) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let facts: Vec<_> = facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 2;
    let mut shown = String::new();
    for (name, value) in facts {
        // Writing to a string does not fail.
        let _ = writeln!(shown, "{:<width$}{value}", format!("{name}:"));
    }
    shown
}

/// A time in Unix seconds.
pub(super) fn time(seconds: u64) -> String {
    Timestamp::from_secs(seconds).to_string()
}

/// Bytes, in the largest unit of which there is one.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

/// Text of others on one line, with control and direction characters escaped.
pub(super) fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let turns =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character == '\t' || !(character.is_control() || turns) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![Cell::new("a.example"), Cell::number(7), Cell::new("good").toned(Tone::Good)],
            vec![Cell::new("bé.example"), Cell::number(1200), Cell::new("b\u{1b}[31mad")],
        ]
    }

    #[test]
    fn columns_are_aligned_and_nothing_steers_the_terminal() {
        let plain = Style { colours: false };
        let expected =
            "NAME        COUNT  STATE\na.example       7  good\nbé.example   1200  b\\u{1b}[31mad\n";
        assert_eq!(table(plain, &["NAME", "COUNT", "STATE"], &rows()), expected);
    }

    #[test]
    fn colours_do_not_move_columns() {
        let shown = table(Style { colours: true }, &["NAME", "COUNT", "STATE"], &rows());
        assert!(shown.contains("a.example       7  \x1b[32mgood\x1b[0m\n"), "{shown:?}");
    }

    #[test]
    fn sizes_have_a_fitting_unit() {
        let shown = [0, 1023, 1024, 1536, 5 << 20, 3 << 30].map(size);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "3.0 GiB"]);
    }
}
