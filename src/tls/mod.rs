//! TLS: one crypto provider (ring), PEM files, and the sessions of the HTTP front, of calls to others and of seed streams.

mod client;
pub(crate) mod der;
mod http;
mod pem;
mod server;
mod verify;

pub use client::{Files, outgoing};
pub use http::http_client;

pub(crate) use client::stream_client;
pub(crate) use pem::certificates;
pub(crate) use server::{Server, stream_server};
