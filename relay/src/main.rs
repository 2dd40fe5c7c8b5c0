//! The `postrider` command.

use std::io;

use postrider::command::{self, Cli};
use postrider::exit::Exit;
use tikv_jemallocator::Jemalloc;

/// One thread takes what another one frees here, all the time, and the system's allocator keeps most of that for itself:
/// twice as much as is in use after a backlog.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> Exit {
    match Cli::understand(std::env::args_os(), &mut io::stdout(), &mut io::stderr()) {
        Ok(cli) => command::run(cli.command),
        Err(exit) => exit,
    }
}
