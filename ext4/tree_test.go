package ext4

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestDirectoryOfMemory adds and drops names at random and compares with a map. What is
// dropped must not stay: else a name that is replaced often makes all slow.
func TestDirectoryOfMemory(t *testing.T) {
	for _, names := range []int{3, 9, 40, 500} {
		d, model := new(directory), map[string]*node{}
		r := rand.New(rand.NewPCG(1, uint64(names)))
		for range 40_000 {
			name := fmt.Sprint("name", r.IntN(names))
			if e := d.find(name); e != nil {
				if e.node != model[name] || e.name != name {
					t.Fatalf("%d names: %s is another's", names, name)
				}
				d.drop(e)
				delete(model, name)
			} else if model[name] != nil {
				t.Fatalf("%d names: %s is lost", names, name)
			}
			if r.IntN(3) > 0 {
				n := new(node)
				d.add(name, n, 0)
				model[name] = n
			}
			if d.live != len(model) || len(d.entries) > 4*names+fewEntries {
				t.Fatalf("%d names, %d are live, with %d entries", len(model), d.live, len(d.entries))
			}
		}
	}
}
