//! The wire form: properties of every message, the golden vectors, and the document that quotes them.

#[cfg(test)]
#[path = "wire/document.rs"]
mod document;
#[cfg(test)]
#[path = "wire/forms.rs"]
mod forms;
#[cfg(test)]
#[path = "wire/hostile.rs"]
mod hostile;
#[cfg(test)]
#[path = "wire/properties.rs"]
mod properties;
#[cfg(test)]
#[path = "wire/vectors.rs"]
mod vectors;
