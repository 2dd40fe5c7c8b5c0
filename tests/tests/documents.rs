//! The documents against the code: what `docs/` lists is what there is, and nothing is missing.
//!
//! The wire form, the JSON documents and the reasons in `docs/protocol.md` are checked in `common/tests/wire`.

#[cfg(test)]
mod documents {
    pub(crate) mod metrics;
    pub(crate) mod operations;
    pub(crate) mod problems;
    pub(crate) mod protocol;

    use std::fs;
    use std::path::Path;

    /// A file of the repository.
    pub(crate) fn file(path: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// What is below a heading, up to the next one of the same rank or a higher one.
    pub(crate) fn section(document: &str, heading: &str) -> String {
        let rank = heading.split(' ').next().unwrap().len();
        let ends = |line: &&str| {
            let hashes = line.len() - line.trim_start_matches('#').len();
            (1..=rank).contains(&hashes)
        };
        let mut lines = document.lines().skip_while(|line| *line != heading);
        assert!(lines.next().is_some(), "there is no heading {heading:?}");
        lines.take_while(|line| !ends(line)).collect::<Vec<_>>().join("\n")
    }

    /// The cells of a section's first table, without backquotes, its head left out.
    pub(crate) fn table(section: &str) -> Vec<Vec<String>> {
        let rows = section.lines().skip_while(|line| !line.starts_with('|'));
        rows.take_while(|line| line.starts_with('|'))
            .skip(2)
            .map(|row| {
                let row = row.trim_start_matches("| ").trim_end_matches(" |");
                row.split(" | ").map(|cell| cell.replace('`', "")).collect()
            })
            .collect()
    }
}
