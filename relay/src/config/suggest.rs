//! "Did you mean …?"

use super::keys::{ALL, SECTIONS};

/// The known key or section that an unknown one was probably meant to be.
pub(super) fn suggest(path: &str) -> Option<&'static str> {
    let (_, name) = path.rsplit_once('.').unwrap_or(("", path));
    let candidates = || ALL.iter().map(|key| key.path).chain(SECTIONS.iter().map(|section| section.path));
    // The right name in the wrong section first: `body` at the top of the file, below the wrong heading.
    let elsewhere = || candidates().find(|known| known.rsplit('.').next() == Some(name) && !name.is_empty());
    near(path, candidates()).or_else(elsewhere).or_else(|| {
        let names = candidates().map(|known| known.rsplit('.').next().unwrap_or(known));
        let name = near(name, names)?;
        candidates().find(|known| known.rsplit('.').next() == Some(name))
    })
}

/// The word that differs by a slip of the finger or two, if there is one.
pub(super) fn near(word: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .filter(|known| !known.is_empty())
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_wrong_sections() {
        for (wrong, meant) in [
            ("domian", "domain"),
            ("limits.boby", "limits.body"),
            ("limits.mailbox_entires", "limits.mailbox_entries"),
            ("body", "limits.body"),
            ("addresses", "listen.addresses"),
            ("limits.cache", "store.cache"),
            ("listen.adresses", "listen.addresses"),
            ("limit", "limits"),
            ("federation.peer", "federation.peers"),
            ("federation.peers.pin", "federation.peers.pins"),
            ("federation.adresses", "listen.addresses"),
        ] {
            assert_eq!(suggest(wrong), Some(meant), "{wrong}");
        }
        for strange in ["colour", "x", "federation.peers.favourite_sandwich"] {
            assert_eq!(suggest(strange), None, "{strange}");
        }
    }
}
