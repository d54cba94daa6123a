//! greylist
