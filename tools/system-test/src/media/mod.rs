//! Judgement of media by its content: decoded by ffmpeg, compared with the source.

mod compare;
mod decode;
pub mod hls;
mod judge;
pub mod recording;
mod whole;

pub use compare::{Match, SourcePicture, best_match, likeness, psnr_db};
pub use decode::{Decoded, GrayFrame, Sound, decode, sound};
pub use judge::{Source, Verdict, judge};
