//! The descriptions of the interface, held against a running gateway: every address and every message that
//! they name is used, every answer is checked by its schema, and nothing may come that is not described.

mod document;
mod http;
mod socket;
