//! Every MQTT topic of the product.
//!
//! A device's branch is `d/<device>/`. Below it `down/` is written by the relay alone and `up/` by the device alone.

use std::fmt;
use thiserror::Error;
use units::{DeviceId, IdError};

/// One topic of one device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Whose branch.
    pub device: DeviceId,
    /// Which leaf.
    pub leaf: Leaf,
}

/// The leaves of a device's branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// Relay to device: [`crate::command::Command`]. QoS 1, not retained.
    Command,
    /// Relay to device: [`crate::command::Notice`]. QoS 0, not retained, wants no answer.
    Notice,
    /// Device to relay: [`crate::command::CommandReport`]. QoS 1.
    CommandResult,
    /// Device to relay: [`crate::state::DeviceState`]. QoS 1, retained.
    State,
    /// Device to relay: [`crate::state::Presence`]. QoS 1, retained; the last will says offline.
    Presence,
    /// Device to relay: [`crate::telemetry::Telemetry`]. QoS 0, once a second, dropped rather than queued.
    Telemetry,
    /// Device to relay: [`crate::state::DeviceEvent`]. QoS 1, queued while offline.
    Event,
}

/// Which way a topic is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Relay to device.
    Down,
    /// Device to relay.
    Up,
}

impl Leaf {
    /// All leaves.
    pub const ALL: [Self; 7] =
        [Self::Command, Self::Notice, Self::CommandResult, Self::State, Self::Presence, Self::Telemetry, Self::Event];

    const fn path(self) -> &'static str {
        match self {
            Self::Command => "down/command",
            Self::Notice => "down/notice",
            Self::CommandResult => "up/command-result",
            Self::State => "up/state",
            Self::Presence => "up/presence",
            Self::Telemetry => "up/telemetry",
            Self::Event => "up/event",
        }
    }

    /// Who writes it.
    pub const fn direction(self) -> Direction {
        match self {
            Self::Command | Self::Notice => Direction::Down,
            _ => Direction::Up,
        }
    }

    /// Whether its messages are retained.
    pub const fn retained(self) -> bool {
        matches!(self, Self::State | Self::Presence)
    }
}

/// Why a text is no topic of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Not of the form `d/<device>/<leaf>`.
    #[error("topic {topic:?} is not below a device's branch (d/<device>/...)")]
    Foreign {
        /// The text.
        topic: String,
    },
    /// The device part is no id.
    #[error("topic {topic:?} names no valid device")]
    Device {
        /// The text.
        topic: String,
        /// What is wrong with it.
        source: IdError,
    },
    /// The leaf is unknown.
    #[error("topic {topic:?} has an unknown leaf")]
    Leaf {
        /// The text.
        topic: String,
    },
}

impl Topic {
    /// The topic `leaf` of `device`.
    pub const fn new(device: DeviceId, leaf: Leaf) -> Self {
        Self { device, leaf }
    }

    /// Reads a topic name.
    ///
    /// # Errors
    /// [`TopicError`], when the text is none of ours; wildcards never are.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let foreign = || TopicError::Foreign { topic: shorten(text) };
        let (device, path) = text.strip_prefix("d/").and_then(|rest| rest.split_once('/')).ok_or_else(foreign)?;
        let device = device.parse().map_err(|source| TopicError::Device { topic: shorten(text), source })?;
        let leaf = Leaf::ALL
            .into_iter()
            .find(|leaf| leaf.path() == path)
            .ok_or_else(|| TopicError::Leaf { topic: shorten(text) })?;
        Ok(Self { device, leaf })
    }

    /// The filter that the relay subscribes to for `leaf` of all devices.
    pub fn filter_all(leaf: Leaf) -> String {
        format!("d/+/{}", leaf.path())
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d/{}/{}", self.device, self.leaf.path())
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_survives_a_round_trip() {
        let device: DeviceId = "van-7".parse().unwrap();
        for leaf in Leaf::ALL {
            let topic = Topic::new(device.clone(), leaf);
            assert_eq!(Topic::parse(&topic.to_string()), Ok(topic));
        }
    }

    #[test]
    fn foreign_wildcard_and_unknown_topics_are_named() {
        assert!(matches!(Topic::parse("$SYS/broker"), Err(TopicError::Foreign { .. })));
        assert!(matches!(Topic::parse("d/+/up/state"), Err(TopicError::Device { .. })));
        assert!(matches!(Topic::parse("d/van-7/up/#"), Err(TopicError::Leaf { .. })));
        assert!(matches!(Topic::parse("d/van-7/up/state/x"), Err(TopicError::Leaf { .. })));
        assert!(matches!(Topic::parse(""), Err(TopicError::Foreign { .. })));
    }
}
