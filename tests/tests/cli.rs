//! The `postrider` command as an administrator and a service manager meet it: the binary itself.

#[cfg(test)]
#[path = "cli/command.rs"]
mod command;
