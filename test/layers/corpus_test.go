package layers_test

import (
	"fmt"
	"maps"
	"testing"
)

// corpus is all images of the differential test.
func corpus(t testing.TB) map[string]image {
	t.Helper()
	all := map[string]image{}
	for theme, images := range map[string]map[string]image{
		"files": fileImages(t), "names": nameImages(t), "replaced": replacedImages(), "links": linkImages(),
		"whiteouts": whiteoutImages(), "tar": tarImages(t), "large": largeImages(),
	} {
		for name, im := range images {
			all[theme+"/"+name] = im
		}
	}
	return all
}

// merged joins maps.
func merged[K comparable, V any](some ...map[K]V) map[K]V {
	all := map[K]V{}
	for _, m := range some {
		maps.Copy(all, m)
	}
	return all
}

// largeImages have many of something.
func largeImages() map[string]image {
	var wide []entry
	for i := range 1200 { // an index of directories, and whiteouts in it
		wide = append(wide, file(fmt.Sprintf("d/a-name-that-fills-blocks-%05d", i), ""))
	}
	wide = append([]entry{dir("d/")}, wide...)
	var hide []entry
	for i := 0; i < 1200; i += 3 {
		hide = append(hide, whiteout(fmt.Sprintf("d/a-name-that-fills-blocks-%05d", i)))
	}
	tower := [][]entry{{dir("d"), file("d/0", "0")}}
	for i := 1; i < 140; i++ { // more than the 127 of Docker
		tower = append(tower, layer(whiteout(fmt.Sprintf("d/%d", i-1)), file(fmt.Sprintf("d/%d", i), noise(5000, i)), file(fmt.Sprintf("d/%d-stays", i), "")))
	}
	deep, path := []entry{}, ""
	for range 100 {
		path += "a-dir/"
		deep = append(deep, dir(path))
	}
	deep = append(deep, file(path+"f", "deep"))
	blocks := []entry{dir("d")}
	for i, n := range []int{0, 1, 511, 512, 513, 4095, 4096, 4097, 8192, 65536, 1 << 20, 5<<20 + 1} {
		blocks = append(blocks, file(fmt.Sprintf("d/%d", i), noise(n, i)))
	}
	return map[string]image{
		"wide": of(wide, hide), "tower": {layers: tower}, "deep": one(deep...), "sizes": one(blocks...),
		"no layer": of(), "empty layers": of(layer(), layer(file("a", "1")), layer(), layer()),
		"one layer twice": of(layer(file("a", "1"), dir("d"), file("d/x", "1")), layer(whiteout("a")), layer(file("a", "1"), dir("d"), file("d/x", "1"))),
	}
}
