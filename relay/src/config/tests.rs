//! Whole files: what loads, what does not, and what is said about it.

mod documents;
mod files;
mod keys;
mod mistakes;
mod values;

use super::Config;
use files::Files;

fn problems(files: &Files, text: &str) -> Vec<String> {
    let error = Config::load(&files.write(text)).expect_err(text);
    error.to_string().lines().map(|line| line.split_once("postrider.toml:").unwrap().1.to_owned()).collect()
}

fn warnings(files: &Files, text: &str) -> Vec<String> {
    let config = files.load(text);
    config.warnings.iter().map(|w| format!("{}: {}", w.key.as_deref().unwrap_or(""), w.text)).collect()
}

/// What is over the line of `domain` in most files here.
const DOMAIN: &str = "domain = \"alpha.example\"\n";

fn with(text: &str) -> String {
    format!("{DOMAIN}{text}")
}
