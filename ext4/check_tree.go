package ext4

import (
	"slices"
	"strings"

	"banger/ext4/internal/disk"
)

// Marks of the search for ways to the root.
const (
	wayUnknown = iota
	wayHere    // on the way that is being followed
	wayRoot
	wayNone
)

// checkTree checks that each directory has one way to the root, and that its ".."
// goes along it.
func (c *checker) checkTree() error {
	if root := c.dir(disk.RootIno); root != nil {
		root.parent, root.mark = disk.RootIno, wayRoot
		c.state(disk.RootIno).found++ // by its own ".."
	} else {
		c.inodeProblem(ProblemUnreachable, disk.RootIno, "is the root, and not there")
	}
	var way []*dirCheck
	for n := range c.dirs {
		d := &c.dirs[n]
		if d.parent != 0 && d.dotdot != 0 && d.dotdot != d.parent {
			c.inodeProblem(ProblemDots, d.ino, "is a directory in directory %d, and its \"..\" is inode %d", d.parent, d.dotdot)
		}
		way = way[:0]
		for d != nil && d.mark == wayUnknown {
			d.mark = wayHere
			way = append(way, d)
			if d.parent == 0 {
				c.inodeProblem(ProblemUnreachable, d.ino, "is a directory that no other names")
				d = nil
				break
			}
			d = c.dir(d.parent)
		}
		end := uint32(wayNone)
		if d != nil && d.mark == wayHere {
			c.inodeProblem(ProblemUnreachable, d.ino, "is a directory inside itself")
		} else if d != nil {
			end = d.mark
		}
		for _, d := range way {
			d.mark = end
		}
	}
	return nil
}

// checkLinks compares the names that inodes have with the links that they count
// (fs/ext4/namei.c for those of directories with more than 65000).
func (c *checker) checkLinks() error {
	for n := range c.groups {
		g := &c.groups[n]
		for at := range g.inodes {
			s := &g.inodes[at]
			ino := uint32(n)*c.sb.InodesPerGroup + uint32(at) + 1
			if s.state&inodeUsed == 0 || s.state&inodeBad != 0 || c.unnamed[ino] || s.links == 0 && c.orphans[ino] {
				continue
			}
			if err := c.checkLinksOf(ino, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) checkLinksOf(ino uint32, s *inodeCheck) error {
	if s.state&inodeValue != 0 {
		return c.checkValueLinks(ino, s)
	}
	isDir := s.kind == disk.FTDir
	if isDir {
		if d := c.dir(ino); d == nil || d.parent == 0 {
			return nil // reported as unreachable
		}
	} else if s.found == 0 {
		c.inodeProblem(ProblemUnreachable, ino, "is in use and has no name")
		return nil
	}
	if uint32(s.links) == s.found {
		return nil
	}
	if isDir && c.sb.FeatureROCompat&disk.ROCompatDirNlink != 0 && s.links == 1 {
		// Too many to count, or once so. Only an indexed directory has that many.
		i, _, ok, err := c.rawInode(ino)
		if !ok || s.found > disk.MaxLinks || i.Flags&disk.InodeIndexed != 0 {
			return err
		}
	}
	c.inodeProblem(ProblemLinks, ino, "counts %d links and has %d", s.links, s.found)
	return nil
}

// pathName is where an inode was found.
type pathName struct {
	parent uint32
	name   string
}

// findPaths finds out where the inodes with problems are: their names in a pass over
// all directories, those of the directories above them in a pass over these.
func (c *checker) findPaths() error {
	names := make(map[uint32]pathName)
	files := false
	for _, p := range c.report.Problems {
		if p.Inode == 0 || p.Inode == disk.RootIno {
			continue
		}
		if s := c.state(p.Inode); s != nil && !c.unnamed[p.Inode] {
			names[p.Inode] = pathName{}
			files = files || s.kind != disk.FTDir
		}
	}
	if len(names) == 0 {
		return nil
	}
	scan := &dirScan{c: c, buf: make([]byte, max(dirBytes, int(c.bs)))}
	if files {
		for n := range c.dirs {
			if err := c.findNames(scan, &c.dirs[n], names); err != nil {
				return err
			}
		}
	}
	above := make(map[uint32]bool) // directories to look into
	for ino, at := range names {
		d := c.dir(ino)
		if d == nil {
			d = c.dir(at.parent)
		}
		for d != nil && d.mark == wayRoot && d.ino != disk.RootIno {
			_, known := names[d.ino]
			if known && above[d.parent] {
				break
			}
			if !known {
				names[d.ino] = pathName{}
			}
			above[d.parent] = true
			d = c.dir(d.parent)
		}
	}
	for ino := range above {
		if err := c.findNames(scan, c.dir(ino), names); err != nil {
			return err
		}
	}
	for k := range c.report.Problems {
		p := &c.report.Problems[k]
		p.Path = joinPath(names, p.Inode)
	}
	return nil
}

// joinPath puts a path together; empty if a part of it is not known.
func joinPath(names map[uint32]pathName, ino uint32) string {
	if ino == disk.RootIno {
		return "/"
	}
	var parts []string
	for ino != disk.RootIno {
		at := names[ino]
		if at.parent == 0 || len(parts) > maxPath {
			return ""
		}
		parts = append(parts, at.name)
		ino = at.parent
	}
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/")
}

// findNames looks into a directory for the inodes in names that have none yet.
func (c *checker) findNames(scan *dirScan, d *dirCheck, names map[uint32]pathName) error {
	if d == nil || d.mark != wayRoot {
		return nil
	}
	if err := c.ctx.Err(); err != nil {
		return err
	}
	ok, err := scan.open(d)
	if !ok {
		return err
	}
	note := func(ino uint32, name string) {
		if at, ok := names[ino]; ok && at.parent == 0 && name != "." && name != ".." {
			if sub := c.dir(ino); sub == nil || sub.parent == d.ino {
				names[ino] = pathName{d.ino, strings.Clone(name)}
			}
		}
	}
	if scan.i.Flags&disk.InodeInlineData != 0 {
		return nil
	}
	return scan.quietly(func(_ uint64, ino uint32, name []byte) {
		if _, ok := names[ino]; ok {
			note(ino, string(name))
		}
	})
}
