//! What a device may say to the broker: pure decisions on decoded packets.
//!
//! A device is its certificate. It connects under its own id, publishes below its own `up/`, subscribes to the two topics
//! of its own `down/`, and leaves a will on its own presence. Everything else is refused by name.

use protocol::limits::PAYLOAD_BYTES_MAX;
use protocol::topic::{Direction, Leaf, Topic};
use rumqttd::protocol::{Connect, LastWill};
use thiserror::Error;
use units::DeviceId;

/// Longest keep-alive that is honoured, seconds; longer ones and "none" are held to it.
pub const KEEP_ALIVE_S_MAX: u16 = 60;
/// Most filters in one SUBSCRIBE or UNSUBSCRIBE.
pub const FILTERS_MAX: usize = 8;

/// Why a packet was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// The client id is not the certificate's name.
    #[error("client id {client_id:?} is not the name in the certificate")]
    ClientId {
        /// As given, shortened.
        client_id: String,
    },
    /// Not a topic of this device, in this direction.
    #[error("topic {topic:?} is not this device's to {verb}")]
    Topic {
        /// As given, shortened.
        topic: String,
        /// "publish", "subscribe to", "leave a will on".
        verb: &'static str,
    },
    /// The payload is too long.
    #[error("payload of {got} bytes is longer than the {PAYLOAD_BYTES_MAX} allowed")]
    Payload {
        /// Its length.
        got: usize,
    },
    /// Quality of service 2 is not spoken here.
    #[error("quality of service 2 is not spoken here; use 0 or 1")]
    QualityOfService,
    /// Too many filters at once.
    #[error("{got} filters in one packet, at most {FILTERS_MAX} are allowed")]
    Filters {
        /// How many.
        got: usize,
    },
}

/// Judges a CONNECT; gives back the keep-alive to hold the device to, seconds.
///
/// # Errors
/// [`Refused`].
pub fn check_connect(device: &DeviceId, connect: &Connect, will: Option<&LastWill>) -> Result<u16, Refused> {
    if connect.client_id != device.as_str() {
        return Err(Refused::ClientId { client_id: shorten(&connect.client_id) });
    }
    if let Some(will) = will {
        let topic = check_topic(device, &will.topic, Direction::Up, "leave a will on")?;
        if topic.leaf != Leaf::Presence {
            return Err(Refused::Topic { topic: topic.to_string(), verb: "leave a will on" });
        }
        check_payload(will.message.len())?;
    }
    Ok(match connect.keep_alive {
        0 => KEEP_ALIVE_S_MAX,
        seconds => seconds.min(KEEP_ALIVE_S_MAX),
    })
}

/// Judges a PUBLISH.
///
/// # Errors
/// [`Refused`].
pub fn check_publish(device: &DeviceId, topic: &[u8], payload_bytes: usize, qos: u8) -> Result<Topic, Refused> {
    if qos > 1 {
        return Err(Refused::QualityOfService);
    }
    check_payload(payload_bytes)?;
    check_topic(device, topic, Direction::Up, "publish")
}

/// Judges one filter of a SUBSCRIBE.
///
/// # Errors
/// [`Refused`].
pub fn check_subscribe(device: &DeviceId, filter: &str) -> Result<Topic, Refused> {
    check_topic(device, filter.as_bytes(), Direction::Down, "subscribe to")
}

/// Judges the number of filters of a packet.
///
/// # Errors
/// [`Refused::Filters`].
pub fn check_filter_count(got: usize) -> Result<(), Refused> {
    if got > FILTERS_MAX { Err(Refused::Filters { got }) } else { Ok(()) }
}

fn check_payload(got: usize) -> Result<(), Refused> {
    if got > PAYLOAD_BYTES_MAX { Err(Refused::Payload { got }) } else { Ok(()) }
}

fn check_topic(device: &DeviceId, topic: &[u8], direction: Direction, verb: &'static str) -> Result<Topic, Refused> {
    let refused = || Refused::Topic { topic: shorten(&String::from_utf8_lossy(topic)), verb };
    let parsed = std::str::from_utf8(topic).ok().and_then(|text| Topic::parse(text).ok()).ok_or_else(refused)?;
    if parsed.device == *device && parsed.leaf.direction() == direction { Ok(parsed) } else { Err(refused()) }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rumqttd::protocol::QoS;

    fn device() -> DeviceId {
        "van-7".parse().unwrap()
    }

    fn connect(client_id: &str, keep_alive: u16) -> Connect {
        Connect { keep_alive, client_id: client_id.to_owned(), clean_session: true }
    }

    fn will(topic: &'static str, bytes: usize) -> LastWill {
        LastWill { topic: topic.into(), message: vec![b'x'; bytes].into(), qos: QoS::AtLeastOnce, retain: true }
    }

    #[test]
    fn a_device_connects_only_under_its_own_name() {
        assert_eq!(check_connect(&device(), &connect("van-7", 10), None), Ok(10));
        assert_eq!(check_connect(&device(), &connect("van-7", 0), None), Ok(KEEP_ALIVE_S_MAX));
        assert_eq!(check_connect(&device(), &connect("van-7", 9999), None), Ok(KEEP_ALIVE_S_MAX));
        for foreign in ["van-8", "", "a/b", "van-7 ", "+", "$share"] {
            assert!(matches!(check_connect(&device(), &connect(foreign, 10), None), Err(Refused::ClientId { .. })));
        }
    }

    #[test]
    fn a_will_is_left_only_on_ones_own_presence() {
        let check = |will: LastWill| check_connect(&device(), &connect("van-7", 10), Some(&will));
        assert_eq!(check(will("d/van-7/up/presence", 100)), Ok(10));
        for topic in ["d/van-8/up/presence", "d/van-7/up/state", "d/van-7/down/command", "d/+/up/presence", "#"] {
            assert!(matches!(check(will(topic, 1)), Err(Refused::Topic { .. })), "{topic}");
        }
        assert!(matches!(check(will("d/van-7/up/presence", PAYLOAD_BYTES_MAX + 1)), Err(Refused::Payload { .. })));
    }

    #[test]
    fn a_device_writes_up_and_reads_down_on_its_own_branch() {
        for leaf in Leaf::ALL {
            let own = Topic::new(device(), leaf).to_string();
            let up = leaf.direction() == Direction::Up;
            assert_eq!(check_publish(&device(), own.as_bytes(), 1, 1).is_ok(), up, "{own}");
            assert_eq!(check_subscribe(&device(), &own).is_ok(), !up, "{own}");
        }
        assert_eq!(check_publish(&device(), b"d/van-7/up/state", 1, 2), Err(Refused::QualityOfService));
        for filter in ["#", "+/+/down/command", "$share/g/d/van-7/down/command", "d/van-7/down/#", "$SYS/#", ""] {
            assert!(matches!(check_subscribe(&device(), filter), Err(Refused::Topic { .. })), "{filter}");
        }
    }

    proptest! {
        /// Whatever the bytes, a topic that passes is one of the device's own.
        #[test]
        fn no_topic_outside_the_branch_passes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(topic) = check_publish(&device(), &bytes, 0, 0) {
                prop_assert_eq!(topic.to_string().into_bytes(), bytes);
            }
        }
    }
}
