//! How deep the values of an AMF0 message hold each other (AMF0 specification, section 2), without recursion.

/// What is open around the value that comes next.
enum Open {
    /// An object or associative array: names and values up to an empty name.
    Object,
    /// A strict array with so many values to come.
    Array(u32),
}

const NUMBER: u8 = 0;
const BOOLEAN: u8 = 1;
const STRING: u8 = 2;
const OBJECT: u8 = 3;
const NULL: u8 = 5;
const UNDEFINED: u8 = 6;
const OBJECT_END: u8 = 9;
const ECMA_ARRAY: u8 = 8;
const STRICT_ARRAY: u8 = 10;

/// Whether values are nested deeper than `max` levels. What is malformed ends the message, as it does for its reader.
pub fn depth_exceeds(message: &[u8], max: usize) -> bool {
    let mut rest = message;
    walk(&mut rest, max).is_some()
}

/// Some when too deep, none at the end of what can be read.
fn walk(rest: &mut &[u8], max: usize) -> Option<()> {
    let mut open = Vec::new();
    loop {
        match open.last_mut() {
            Some(Open::Object) => {
                let name = length(rest)?;
                if name == 0 {
                    skip(rest, 1)?;
                    open.pop();
                    continue;
                }
                skip(rest, name)?;
            }
            Some(Open::Array(0)) => {
                open.pop();
                continue;
            }
            Some(Open::Array(count)) => *count -= 1,
            None => {}
        }
        let entered = match take::<1>(rest)?[0] {
            NUMBER => skip(rest, 8).map(|()| None),
            BOOLEAN => skip(rest, 1).map(|()| None),
            STRING => length(rest).and_then(|bytes| skip(rest, bytes)).map(|()| None),
            NULL | UNDEFINED => Some(None),
            OBJECT => Some(Some(Open::Object)),
            ECMA_ARRAY => skip(rest, 4).map(|()| Some(Open::Object)),
            STRICT_ARRAY => take(rest).map(|count| Some(Open::Array(u32::from_be_bytes(count)))),
            // Its reader takes it for the end of an array, and else for an error or the end of everything.
            OBJECT_END if matches!(open.last(), Some(Open::Array(_))) => {
                open.pop();
                Some(None)
            }
            _ => None,
        }?;
        open.extend(entered);
        if open.len() > max {
            return Some(());
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    take(rest).map(|bytes| usize::from(u16::from_be_bytes(bytes)))
}

fn skip(rest: &mut &[u8], bytes: usize) -> Option<()> {
    *rest = rest.get(bytes..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `onMetaData` as encoders send it: a string, then an associative array.
    fn metadata() -> Vec<u8> {
        let mut bytes = vec![STRING, 0, 10];
        bytes.extend(b"onMetaData");
        bytes.extend([ECMA_ARRAY, 0, 0, 0, 2, 0, 5]);
        bytes.extend(b"width");
        bytes.push(NUMBER);
        bytes.extend(1280.0_f64.to_be_bytes());
        bytes.extend([0, 6]);
        bytes.extend(b"stereo");
        bytes.extend([BOOLEAN, 1, 0, 0, 9]);
        bytes
    }

    #[test]
    fn what_is_closed_does_not_count() {
        let message = metadata().repeat(100);
        assert!(!depth_exceeds(&message, 1));
        assert!(depth_exceeds(&message, 0));
        let lists = [[STRICT_ARRAY, 0, 0, 0, 2, NULL, UNDEFINED], [STRICT_ARRAY, 0, 0, 0, 2, NULL, NULL]].concat();
        assert!(!depth_exceeds(&lists, 1));
    }

    #[test]
    fn every_kind_of_container_counts() {
        let object: &[u8] = &[OBJECT, 0, 1, b'a'];
        let named: &[u8] = &[ECMA_ARRAY, 0, 0, 0, 0, 0, 1, b'a'];
        let list: &[u8] = &[STRICT_ARRAY, 0, 0, 0, 1];
        for kind in [object, named, list] {
            assert!(!depth_exceeds(&kind.repeat(8), 8), "{kind:?}");
            assert!(depth_exceeds(&kind.repeat(9), 8), "{kind:?}");
        }
        assert!(depth_exceeds(&[object, named, list].concat().repeat(3), 8));
        // A list that is cut short is no way around.
        let cut = [object, &[STRICT_ARRAY, 0, 0, 0, 2, OBJECT_END, 0, 1, b'b'], &object.repeat(8)].concat();
        assert!(depth_exceeds(&cut, 8));
    }

    #[test]
    fn a_message_cut_anywhere_is_left_to_its_reader() {
        let message = metadata();
        for end in 0..message.len() {
            assert!(!depth_exceeds(&message[..end], 1));
        }
    }
}
