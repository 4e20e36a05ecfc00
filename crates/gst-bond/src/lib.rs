//! gst-bond
