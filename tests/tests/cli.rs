//! The `postrider` command as an administrator, a service manager and a user meet it: the binary itself.

#[cfg(test)]
#[path = "cli/client.rs"]
mod client;
#[cfg(test)]
#[path = "cli/command.rs"]
mod command;
#[cfg(test)]
#[path = "cli/files.rs"]
mod files;
#[cfg(test)]
#[path = "cli/owner.rs"]
mod owner;
