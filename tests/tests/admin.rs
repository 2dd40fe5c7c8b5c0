//! What an administrator has in his hands: the socket and the commands that ask a running relay, met as he meets them.

#[cfg(test)]
#[path = "admin/commands.rs"]
mod commands;
#[cfg(test)]
#[path = "admin/doctor.rs"]
mod doctor;
#[cfg(test)]
#[path = "admin/invites.rs"]
mod invites;
#[cfg(test)]
#[path = "admin/mailboxes.rs"]
mod mailboxes;
#[cfg(test)]
#[path = "admin/monitoring.rs"]
mod monitoring;
#[cfg(test)]
#[path = "admin/peering.rs"]
mod peering;
#[cfg(test)]
#[path = "admin/queue.rs"]
mod queue;
#[cfg(test)]
#[path = "admin/reload.rs"]
mod reload;
#[cfg(test)]
#[path = "admin/renewals.rs"]
mod renewals;
#[cfg(test)]
#[path = "admin/socket.rs"]
mod socket;
