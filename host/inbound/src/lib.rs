//! Mail comes in.

mod networks;
mod proxy;

pub use networks::{NetworkError, Networks};
