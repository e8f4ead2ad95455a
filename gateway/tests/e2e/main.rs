//! The gateway against a real grid of one node, over real sockets.

mod bad_input;
mod bidding;
mod closing;
mod described;
mod fan_out;
mod harness;
mod http;
mod selling;
mod waiting;
