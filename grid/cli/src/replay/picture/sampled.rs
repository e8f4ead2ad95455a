//! A bounded choice of a long row of things, evenly over the whole row.

/// Keeps every first, second, fourth … of what is pushed, as many as there is room for, and the last.
#[derive(Clone, Debug)]
pub(super) struct Sampled<T> {
    kept: Vec<T>,
    max: usize,
    stride: u64,
    pushed: u64,
    last: Option<T>,
}

impl<T: Clone> Sampled<T> {
    /// Keeps at most `max`, and the last.
    pub(super) fn new(max: usize) -> Self {
        Self {
            kept: Vec::new(),
            max: max.max(2),
            stride: 1,
            pushed: 0,
            last: None,
        }
    }

    pub(super) fn push(&mut self, value: T) {
        self.last = Some(value.clone());
        if self.pushed.is_multiple_of(self.stride) {
            if self.kept.len() == self.max {
                let mut place = 0;
                self.kept.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.stride *= 2;
            }
            if self.pushed.is_multiple_of(self.stride) {
                self.kept.push(value);
                self.last = None;
            }
        }
        self.pushed += 1;
    }

    /// What was kept, in the order in which it came.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + Clone {
        self.kept.iter().chain(&self.last)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_even_and_has_both_ends() {
        let mut few = Sampled::new(4);
        (0..4).for_each(|value| few.push(value));
        assert_eq!(few.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
        let mut many = Sampled::new(4);
        (0..22).for_each(|value| many.push(value));
        assert_eq!(many.iter().copied().collect::<Vec<_>>(), [0, 8, 16, 21]);
    }
}
