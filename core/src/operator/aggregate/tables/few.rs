//! Short lists of values, one per group, in one piece of memory.

/// Values that lie in the group itself.
const INLINE: usize = 2;

/// Values of a chunk: two lines of a cache, of eight bytes each.
const CHUNK: usize = 16;

/// Length of a group whose values are elsewhere.
const GONE: u32 = u32::MAX;

/// Lists that grow by chunks; the chunks of emptied lists serve others.
#[derive(Clone)]
pub(super) struct Few<T> {
    groups: Vec<Group<T>>,
    chunks: Vec<[T; CHUNK]>,
    /// The chunk before each.
    before: Vec<u32>,
    free: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Group<T> {
    inline: [T; INLINE],
    len: u32,
    /// The newest chunk; what stands for the values if they are [`GONE`].
    chunk: u32,
}

impl<T: Copy + Default> Few<T> {
    pub fn new() -> Few<T> {
        Few { groups: Vec::new(), chunks: Vec::new(), before: Vec::new(), free: Vec::new() }
    }

    /// How many groups there is room for.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Makes room for `groups` groups.
    pub fn reserve(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize(groups, Group { inline: [T::default(); INLINE], len: 0, chunk: 0 });
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let links = self.before.capacity() + self.free.capacity();
        self.groups.capacity() * size_of::<Group<T>>() + self.chunks.capacity() * size_of::<[T; CHUNK]>() + links * size_of::<u32>()
    }

    /// What a list was replaced by; nothing if there is no such list.
    #[inline]
    pub fn replacement(&self, slot: u32) -> Option<u32> {
        self.groups.get(slot as usize).filter(|group| group.len == GONE).map(|group| group.chunk)
    }

    /// Empties a list for good: `replacement` stands for it.
    pub fn replace(&mut self, slot: u32, replacement: u32) {
        self.clear(slot);
        let group = &mut self.groups[slot as usize];
        (group.len, group.chunk) = (GONE, replacement);
    }

    /// Adds a value to a list and returns its length; the list was not replaced.
    #[inline]
    pub fn push(&mut self, slot: u32, value: T) -> usize {
        let group = &mut self.groups[slot as usize];
        let len = group.len as usize;
        group.len += 1;
        match len.checked_sub(INLINE) {
            None => group.inline[len] = value,
            Some(place) => {
                if place.is_multiple_of(CHUNK) {
                    let chunk = match self.free.pop() {
                        Some(chunk) => chunk,
                        None => {
                            self.chunks.push([T::default(); CHUNK]);
                            self.before.push(0);
                            (self.chunks.len() - 1) as u32
                        }
                    };
                    self.before[chunk as usize] = group.chunk;
                    group.chunk = chunk;
                }
                self.chunks[group.chunk as usize][place % CHUNK] = value;
            }
        }
        len + 1
    }

    /// The parts of a list, in no order; empty ones if there is no such list.
    fn parts(&self, slot: u32) -> impl Iterator<Item = &[T]> {
        let group = self.groups.get(slot as usize).filter(|group| group.len != GONE);
        let len = group.map_or(0, |group| group.len as usize);
        let inline = group.map_or(&[][..], |group| &group.inline[..len.min(INLINE)]);
        let (mut chunk, mut left) = (group.map_or(0, |group| group.chunk), len.saturating_sub(INLINE));
        let chunks = std::iter::from_fn(move || {
            let values = left.checked_sub(1)? % CHUNK + 1;
            let part = &self.chunks[chunk as usize][..values];
            chunk = self.before[chunk as usize];
            left -= values;
            Some(part)
        });
        std::iter::once(inline).chain(chunks)
    }

    /// Appends the values of a list to `values`, in no order.
    pub fn append_to(&self, slot: u32, values: &mut Vec<T>) {
        self.parts(slot).for_each(|part| values.extend_from_slice(part));
    }

    /// Empties a list, or makes it one again.
    pub fn clear(&mut self, slot: u32) {
        let group = &mut self.groups[slot as usize];
        if group.len != GONE {
            let (mut chunk, chunks) = (group.chunk, (group.len as usize).saturating_sub(INLINE).div_ceil(CHUNK));
            for _ in 0..chunks {
                self.free.push(chunk);
                chunk = self.before[chunk as usize];
            }
        }
        group.len = 0;
    }

    /// Empties all lists.
    pub fn clear_all(&mut self) {
        self.groups.iter_mut().for_each(|group| group.len = 0);
        self.chunks.clear();
        self.before.clear();
        self.free.clear();
    }
}
