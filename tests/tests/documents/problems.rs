//! The problems of both edges. They are made in one place each, which is read here as text: nothing outside those
//! places can name them.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use postrider_common::FailureClass;

use super::{file, section, table};

/// The status that a constant of `http` stands for, and the other way round.
fn status(constant: &str) -> u16 {
    let constant = constant.trim().trim_end_matches(',').trim_start_matches("StatusCode::");
    let name = constant.replace('_', " ");
    let all = (100..600).filter_map(|code| StatusCode::from_u16(code).ok());
    let mut found = all.filter(|status| {
        status.canonical_reason().is_some_and(|reason| reason.replace('-', " ").eq_ignore_ascii_case(&name))
    });
    found.next().unwrap_or_else(|| panic!("which status is {constant}?")).as_u16()
}

/// The arms of the `match` in a function: the variants on the left, what is on the right.
fn arms(source: &str, function: &str) -> BTreeMap<String, String> {
    let (_, body) = source.split_once(&format!("fn {function}(&self)")).unwrap();
    let (body, _) = body.split_once("\n    }\n").unwrap();
    let arms = body.lines().filter_map(|line| line.split_once("=>"));
    let mut of_variants = BTreeMap::new();
    for (left, right) in arms {
        for pattern in left.split(" | ") {
            let variant = pattern.trim().trim_start_matches("Self::");
            let end = variant.find(|c: char| !c.is_alphanumeric()).unwrap_or(variant.len());
            let right = right.trim().trim_end_matches(',').trim_matches('"');
            of_variants.insert(variant[..end].to_owned(), right.to_owned());
        }
    }
    of_variants
}

#[test]
fn every_problem_of_the_client_api_is_listed_with_its_status() {
    let source = file("relay/src/api/problem.rs");
    let (slugs, statuses) = (arms(&source, "slug"), arms(&source, "status"));
    assert_eq!(slugs.keys().collect::<Vec<_>>(), statuses.keys().collect::<Vec<_>>());
    let made: BTreeSet<_> =
        slugs.iter().map(|(name, slug)| (slug.clone(), status(&statuses[name]))).collect();
    let listed: BTreeSet<_> = table(&section(&file("docs/protocol.md"), "### Errors"))
        .into_iter()
        .map(|row| (row[0].clone(), row[1].parse().unwrap()))
        .collect();
    assert_eq!(listed, made);
}

#[test]
fn every_problem_between_relays_is_listed_with_its_status() {
    let rows = table(&section(&file("docs/protocol.md"), "### Errors between relays"));
    let listed: BTreeMap<_, u16> =
        rows.iter().map(|row| (row[0].as_str(), row[1].parse().unwrap())).collect();
    let sources = ["answer", "attachments", "body", "request"]
        .map(|name| file(&format!("federation/src/server/{name}.rs")))
        .concat();
    // `Refusal::new(StatusCode::X, "slug", …)` or with `FailureClass::Y.slug()`, on one line or several.
    let text: String = sources.split_whitespace().collect();
    let mut made = BTreeMap::new();
    for call in text.split("::new(StatusCode::").skip(1) {
        let (constant, rest) = call.split_once(',').unwrap();
        let (slug, _) = rest.split_once(',').unwrap();
        let slug = match slug.strip_prefix("FailureClass::") {
            None => slug.trim_matches('"').to_owned(),
            Some(class) => class_named(class.trim_end_matches(".slug()")).slug().to_owned(),
        };
        if slug != "failure.class.slug()" {
            made.insert(slug, status(constant));
        }
    }
    assert!(made.len() > 8, "{made:?}");
    // What is forbidden is said by the class with which policy or trust has failed; what DNS does not say, by its own.
    let judges = [
        "policy",
        "trust",
        "trust/chain",
        "trust/dane",
        "trust/evidence",
        "trust/pinned",
        "discovery/resolver",
    ];
    for class in classes_of(&judges) {
        let is_unknown = matches!(class, FailureClass::DiscoveryFailed | FailureClass::DiscoveryBogus);
        made.insert(class.slug().to_owned(), if is_unknown { 503 } else { 403 });
    }
    assert_eq!(listed.keys().copied().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    for (slug, status) in listed {
        assert_eq!(made[slug], status, "{slug}");
    }
    for row in &rows {
        assert!(row[3].parse::<FailureClass>().is_ok(), "{row:?}");
    }
}

/// The failure classes that files of the federation crate name, their tests apart.
fn classes_of(files: &[&str]) -> Vec<FailureClass> {
    let mut classes = Vec::new();
    for name in files {
        let source = file(&format!("federation/src/{name}.rs"));
        let (source, _) = source.split_once("#[cfg(test)]").unwrap_or((&source, ""));
        for rest in source.split("FailureClass::").skip(1) {
            let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            classes.push(class_named(&rest[..end]));
        }
    }
    classes
}

fn class_named(variant: &str) -> FailureClass {
    FailureClass::ALL.iter().copied().find(|class| format!("{class:?}") == variant).unwrap()
}
