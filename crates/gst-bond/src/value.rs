//! Reading what the property system hands over: types were checked before, so a mismatch is the default.

use gstreamer::glib;

pub(crate) fn text(value: &glib::Value) -> String {
    optional_text(value).unwrap_or_default()
}

pub(crate) fn optional_text(value: &glib::Value) -> Option<String> {
    value.get::<Option<String>>().ok().flatten()
}

pub(crate) fn number(value: &glib::Value) -> u32 {
    value.get().unwrap_or_default()
}
