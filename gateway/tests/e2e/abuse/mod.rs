//! The list of abuse in `docs/security.md`, by number. Clients come from other addresses of this machine, so
//! that the harness's own is not limited with them.

mod answers;
mod handshakes;
mod limits;
mod messages;
mod requests;
mod table;
mod wire;
