//! `postrider` with the places where a test can have it end at once. It is built for tests only.

use std::io;

use postrider::command::{self, Cli};
use postrider::exit::Exit;

fn main() -> Exit {
    match Cli::understand(std::env::args_os(), &mut io::stdout(), &mut io::stderr()) {
        Ok(cli) => command::run(cli.command),
        Err(exit) => exit,
    }
}
