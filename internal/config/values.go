package config

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"banger/internal/oci"
)

// Value is one value that holds.
type Value struct {
	// Key is as in the file, with dots between.
	Key string `json:"key"`
	// Value is a string, a bool or a []string.
	Value any `json:"value"`
	// From is "FILE:LINE", or "default".
	From string `json:"from"`
}

// Values are all values that hold, those of lists only where there are any.
func (c Config) Values() []Value {
	var all []Value
	add := func(value any, key ...string) {
		name := key[0]
		for _, part := range key[1:] {
			name += "." + part
		}
		all = append(all, Value{name, value, cmp.Or(c.file.Where(key...), "default")})
	}
	size := noCap
	if c.Image.CacheMax != 0 {
		size = c.Image.CacheMax.String()
	}
	add(c.Image.Default, "image", "default")
	add(size, "image", "cache_max")
	byName := func(a, b oci.Reference) int { return cmp.Compare(a.Familiar(), b.Familiar()) }
	for _, ref := range slices.SortedFunc(maps.Keys(c.Image.Pins), byName) {
		all = append(all, Value{"image.pins." + strconv.Quote(ref.Familiar()), c.Image.Pins[ref], c.pinFrom(ref)})
	}
	add(c.Kernel.Default, "kernel", "default")
	for i, r := range c.Registry {
		n := strconv.Itoa(i)
		add(r.Host, "registry", n, "host")
		add(append([]string{}, r.Mirrors...), "registry", n, "mirrors")
		add(r.Insecure, "registry", n, "insecure")
	}
	add(c.Network.HTTPProxy, "network", "http_proxy")
	add(c.Network.HTTPSProxy, "network", "https_proxy")
	add(c.Network.NoProxy, "network", "no_proxy")
	add(c.Network.RegistryCAFile, "network", "registry_ca_file")
	return all
}

// pinFrom is where a pin stands, under whichever of the reference's names.
func (c Config) pinFrom(ref oci.Reference) string {
	for _, name := range c.file.Keys("image", "pins") {
		if parsed, err := oci.ParseReference(name); err == nil && parsed == ref {
			return c.file.Where("image", "pins", name)
		}
	}
	return ""
}
