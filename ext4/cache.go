package ext4

import "sync"

// cacheBytes bounds what a cache holds.
const cacheBytes = 8 << 20

// cache keeps the blocks that were read last. It has two generations: when the
// young one is full it becomes the old one, and what is used moves back. The zero
// value is empty; it is safe for concurrent use.
type cache struct {
	mu         sync.Mutex
	young, old map[uint64][]byte
}

func (c *cache) get(n uint64) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.young[n]; ok {
		return b
	}
	b, ok := c.old[n]
	if ok {
		c.add(n, b)
	}
	return b
}

// put keeps b, which nobody may change from now on.
func (c *cache) put(n uint64, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(n, b)
}

func (c *cache) add(n uint64, b []byte) {
	if c.young == nil || len(c.young) >= cacheBytes/2/len(b) {
		c.young, c.old = make(map[uint64][]byte), c.young
	}
	c.young[n] = b
}

// drop forgets a block.
func (c *cache) drop(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, n)
	delete(c.old, n)
}
