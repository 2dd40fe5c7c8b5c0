//! What is wrong, or odd, with a configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::exit::Exit;

/// One thing that is wrong with a configuration, or odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key it is about, if it is about one: `federation.peers[2].pins`.
    pub key: Option<String>,
    /// The line of the file, if the key stands in it.
    pub line: Option<usize>,
    /// The rest of the sentence.
    pub text: String,
}

/// Everything that is wrong with a configuration file.
///
/// Displayed as one line for each problem, beginning with the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(super) const fn new(file: PathBuf, problems: Vec<Problem>) -> Self {
        Self { file, problems }
    }

    /// What is wrong, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What the process exits with.
    pub const fn exit(&self) -> Exit {
        Exit::Config
    }
}

impl Problem {
    /// The problem as one line, with the name of the file it is in.
    pub fn in_file<'a>(&'a self, file: &'a Path) -> impl fmt::Display + 'a {
        InFile { file, problem: self }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", problem.in_file(&self.file))?;
        }
        Ok(())
    }
}

struct InFile<'a> {
    file: &'a Path,
    problem: &'a Problem,
}

impl fmt::Display for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.problem.line {
            write!(f, "{line}:")?;
        }
        match &self.problem.key {
            Some(key) => write!(f, " {key} {}", self.problem.text),
            None => write!(f, " {}", self.problem.text),
        }
    }
}

/// Collects problems and warnings while a file is gone through.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What makes the configuration unusable.
    pub(super) problems: Vec<Problem>,
    /// What is allowed but odd.
    pub(super) warnings: Vec<Problem>,
}
