//! RTMP publishing (Adobe RTMP 1.0), over TCP or TLS, of H.264 and AAC.
//!
//! A session begins with a random access point and its decoder configuration; its timestamps begin at zero. While nothing
//! arrives the session is kept. When it breaks, the next one begins after a pause, with what is live then.

mod connection;
mod error;
mod flv;
mod interleave;
mod secure;
mod target;

use super::backoff::Backoff;
use super::queue::{Feed, Item};
use super::status::StatusCell;
use crate::media::aac::{self, AacConfig, SAMPLES_PER_FRAME};
use crate::media::pes::TICKS_PER_SECOND;
use crate::media::unit::{Program, TrackKind, Unit};
use crate::media::video::VideoConfig;
use connection::Connection;
use error::SessionError;
use interleave::{Interleaver, Lane, Message};
use protocol::Secret;
use rml_rtmp::sessions::StreamMetadata;
use std::sync::Arc;
use std::time::{Duration, Instant};
use target::Target;

/// Pause after an error that only another coding mends; the next picture is looked at then.
const CODING_PAUSE: Duration = Duration::from_secs(5);

/// Publishes until the feed ends.
pub async fn run(url: &str, key: &Secret, mut feed: Feed, status: &StatusCell) {
    let target = match Target::parse(url, key) {
        Ok(target) => target,
        Err(error) => {
            status.failed(&error.to_string());
            while feed.next().await.is_some() {}
            return;
        }
    };
    let mut backoff = Backoff::default();
    while let Some(first) = starting_unit(&mut feed).await {
        let mut delivered_for = Duration::ZERO;
        let error = match attempt(&target, first, &mut feed, status, &mut delivered_for).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let reason = hide(&error.sentence(), &target.key);
        let pause = if let SessionError::Coding { .. } = error {
            status.failed(&reason);
            CODING_PAUSE
        } else {
            let pause = backoff.pause(delivered_for, random());
            status.retrying(&reason, pause);
            pause
        };
        if !discard_for(&mut feed, pause).await {
            return;
        }
    }
}

/// The next unit a session can begin with; `None` when the feed has ended.
async fn starting_unit(feed: &mut Feed) -> Option<Arc<Unit>> {
    loop {
        if let Item::Unit { unit, .. } = feed.next().await?
            && unit.starts_output()
        {
            return Some(unit);
        }
    }
}

/// False when the feed has ended.
async fn discard_for(feed: &mut Feed, pause: Duration) -> bool {
    let until = tokio::time::Instant::now() + pause;
    loop {
        match tokio::time::timeout_at(until, feed.next()).await {
            Err(_) => return feed.discard(),
            Ok(None) => return false,
            Ok(Some(_)) => {}
        }
    }
}

/// One session; `Ok` when the feed has ended.
async fn attempt(
    target: &Target,
    first: Arc<Unit>,
    feed: &mut Feed,
    status: &StatusCell,
    delivered_for: &mut Duration,
) -> Result<(), SessionError> {
    check_coding(&first.program)?;
    status.connecting();
    let mut connection = Connection::open(target).await?;
    let began = Instant::now();
    let outcome = publish(&mut connection, first, feed, status).await;
    *delivered_for = began.elapsed();
    if outcome.is_ok() {
        connection.close().await;
    }
    outcome
}

async fn publish(
    connection: &mut Connection,
    first: Arc<Unit>,
    feed: &mut Feed,
    status: &StatusCell,
) -> Result<(), SessionError> {
    let mut publication = Publication::new(first.dts);
    connection.describe(&metadata(&first.program))?;
    publication.unit(connection, &first)?;
    loop {
        let written = connection.write_out().await?;
        if written > 0 {
            status.add_bytes(written);
            status.active();
        }
        tokio::select! {
            item = feed.next() => match item {
                Some(Item::Unit { unit, .. }) => publication.unit(connection, &unit)?,
                Some(_) => {}
                None => {
                    publication.finish(connection)?;
                    connection.flush().await?;
                    return Ok(());
                }
            },
            heard = connection.listen() => heard?,
        }
    }
}

/// What the server has been told.
struct Publication {
    /// Output time of the session's zero, in ticks.
    origin: i64,
    video: Option<VideoConfig>,
    audio: Option<AacConfig>,
    interleaver: Interleaver,
}

impl Publication {
    fn new(origin: i64) -> Self {
        Self { origin, video: None, audio: None, interleaver: Interleaver::default() }
    }

    fn unit(&mut self, connection: &mut Connection, unit: &Unit) -> Result<(), SessionError> {
        // What belongs before the first picture has no place in the session.
        if unit.dts < self.origin {
            return Ok(());
        }
        let at_ms = flv::milliseconds(unit.dts - self.origin);
        match unit.track().kind {
            TrackKind::Video(_) if unit.track == unit.program.lead() => self.picture(unit, at_ms)?,
            TrackKind::Aac if Some(unit.track) == first_aac(&unit.program) => self.sound(unit),
            _ => {}
        }
        while let Some(message) = self.interleaver.pop() {
            send(connection, message)?;
        }
        Ok(())
    }

    fn picture(&mut self, unit: &Unit, at_ms: i64) -> Result<(), SessionError> {
        check_coding(&unit.program)?;
        let config = unit.track().video.as_ref();
        if let Some(config) = config.filter(|config| unit.random_access && self.video.as_ref() != Some(*config)) {
            let Some(body) = flv::video_header(config) else { return Ok(()) };
            self.interleaver.push(Message { lane: Lane::Video, at_ms, body });
            self.video = Some(config.clone());
        }
        if self.video.is_some()
            && let Some(body) = flv::video_body(unit)
        {
            self.interleaver.push(Message { lane: Lane::Video, at_ms, body });
        }
        Ok(())
    }

    fn sound(&mut self, unit: &Unit) {
        for (index, frame) in aac::frames(&unit.payload).enumerate() {
            let samples = index as u64 * SAMPLES_PER_FRAME;
            let ticks = samples as i64 * TICKS_PER_SECOND / i64::from(frame.config.sample_rate());
            let at_ms = flv::milliseconds(unit.dts + ticks - self.origin);
            if self.audio != Some(frame.config) {
                self.interleaver.push(Message { lane: Lane::Audio, at_ms, body: flv::audio_header(frame.config) });
                self.audio = Some(frame.config);
            }
            self.interleaver.push(Message { lane: Lane::Audio, at_ms, body: flv::audio_body(&frame) });
        }
    }

    fn finish(&mut self, connection: &mut Connection) -> Result<(), SessionError> {
        self.interleaver.drain().try_for_each(|message| send(connection, message))
    }
}

fn send(connection: &mut Connection, message: Message) -> Result<(), SessionError> {
    // RTMP time wraps at 32 bits, after 49 days.
    let at_ms = message.at_ms as u32;
    match message.lane {
        Lane::Video => connection.video(at_ms, message.body),
        Lane::Audio => connection.audio(at_ms, message.body),
    }
}

fn first_aac(program: &Program) -> Option<usize> {
    program.tracks.iter().position(|track| track.kind == TrackKind::Aac)
}

fn check_coding(program: &Program) -> Result<(), SessionError> {
    match program.tracks.get(program.lead()).map(|track| track.kind) {
        Some(TrackKind::Video(crate::media::nal::VideoCodec::H265)) => {
            Err(SessionError::Coding { video: "H.265".to_owned() })
        }
        _ => Ok(()),
    }
}

fn metadata(program: &Program) -> StreamMetadata {
    let mut metadata = StreamMetadata::new();
    if let Some(video) = program.video() {
        metadata.video_codec_id = Some(7);
        metadata.video_width = video.sequence.map(|sequence| sequence.width);
        metadata.video_height = video.sequence.map(|sequence| sequence.height);
    }
    if let Some(audio) = program.aac() {
        metadata.audio_codec_id = Some(10);
        metadata.audio_sample_rate = Some(audio.sample_rate());
        metadata.audio_channels = Some(u32::from(audio.channels));
        metadata.audio_is_stereo = Some(audio.channels == 2);
    }
    metadata.encoder = Some(concat!("Strata ", env!("CARGO_PKG_VERSION")).to_owned());
    metadata
}

/// A server may repeat the key in its own words.
fn hide(text: &str, key: &Secret) -> String {
    text.replace(key.reveal(), "(hidden)")
}

/// Any number, for jitter.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_a_servers_words_is_hidden() {
        let error = SessionError::PublishRefused { code: "NetStream.Publish.BadName: live/abc-123".to_owned() };
        let text = hide(&error.sentence(), &Secret::new("abc-123"));
        assert!(text.contains("live/(hidden)") && text.contains("check the stream key"), "{text}");
    }
}
