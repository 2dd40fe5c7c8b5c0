//! Which relay of this machine a command is about.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, ConfigErrors};

/// Which relay.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct Place {
    /// The relay's configuration file.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The relay's data directory: the one that has `store` in it.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl Place {
    /// Its data directory, whether it is there or not.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigErrors> {
        match (&self.config, &self.data) {
            (Some(config), _) => Ok(Config::load(config)?.data_dir),
            (None, Some(data)) => Ok(data.clone()),
            // The command line has one of them.
            (None, None) => Ok(PathBuf::new()),
        }
    }
}
