//! The gateway against a real grid of one node, over real sockets.

mod abuse;
mod bad_input;
mod bidding;
mod closing;
mod described;
mod fan_out;
mod harness;
mod http;
mod provider;
mod selling;
mod sessions;
mod tls;
mod tokens;
mod waiting;
