// Package users resolves names of the image's /etc/passwd and /etc/group the way container runtimes do (runc: GetExecUser).
package users

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Identity is what a process runs as.
type Identity struct {
	Name     string
	UID, GID uint32
	// Groups are the supplementary groups.
	Groups []uint32
	Home   string
	// Shell is empty when the image names none.
	Shell string
}

type passwdEntry struct {
	name        string
	uid, gid    uint32
	home, shell string
}

type groupEntry struct {
	name    string
	gid     uint32
	members []string
}

// Database is a parsed pair of files.
type Database struct {
	passwd []passwdEntry
	group  []groupEntry
}

// Load reads the image's files; a missing file is an empty one.
func Load() Database {
	passwd, _ := os.ReadFile("/etc/passwd")
	group, _ := os.ReadFile("/etc/group")
	return Parse(string(passwd), string(group))
}

// Parse skips lines that are malformed, as libc does.
func Parse(passwd, group string) Database {
	var db Database
	for line := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) < 7 {
			continue
		}
		uid, okUID := number(f[2])
		gid, okGID := number(f[3])
		if okUID && okGID {
			db.passwd = append(db.passwd, passwdEntry{f[0], uid, gid, f[5], f[6]})
		}
	}
	for line := range strings.Lines(group) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) < 4 {
			continue
		}
		if gid, ok := number(f[2]); ok {
			db.group = append(db.group, groupEntry{f[0], gid, strings.Split(f[3], ",")})
		}
	}
	return db
}

func number(text string) (uint32, bool) {
	n, err := strconv.ParseUint(text, 10, 31)
	return uint32(n), err == nil
}

// Login finds a user by name for SSH; false when the image has none of that name.
func (db Database) Login(name string) (Identity, bool) {
	if name == "root" && !slices.ContainsFunc(db.passwd, func(p passwdEntry) bool { return p.name == name }) {
		return Identity{Name: "root", Home: "/"}, true // scratch images have no passwd file
	}
	for _, p := range db.passwd {
		if p.name == name {
			return db.identity(p), true
		}
	}
	return Identity{}, false
}

func (db Database) identity(p passwdEntry) Identity {
	id := Identity{Name: p.name, UID: p.uid, GID: p.gid, Home: p.home, Shell: p.shell}
	for _, g := range db.group {
		if slices.Contains(g.members, p.name) {
			id.Groups = append(id.Groups, g.gid)
		}
	}
	if id.Home == "" {
		id.Home = "/"
	}
	return id
}

// Resolve reads an image's USER: "", name, uid, name:group, uid:gid and their mixtures. Supplementary groups come only with the
// implicit form, without a group.
func (db Database) Resolve(user string) (Identity, error) {
	name, group, hasGroup := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	id, err := db.resolveUser(name)
	if err != nil || !hasGroup || group == "" {
		return id, err
	}
	id.Groups = nil
	if gid, ok := number(group); ok { // what is a number is an id, also where a group has it for a name
		id.GID = gid
		return id, nil
	}
	for _, g := range db.group {
		if g.name == group {
			id.GID = g.gid
			return id, nil
		}
	}
	return Identity{}, fmt.Errorf("the image has no group %q", group)
}

func (db Database) resolveUser(name string) (Identity, error) {
	uid, numeric := number(name)
	for _, p := range db.passwd {
		if (numeric && p.uid == uid) || (!numeric && p.name == name) {
			return db.identity(p), nil
		}
	}
	if !numeric {
		return Identity{}, fmt.Errorf("the image has no user %q", name)
	}
	return Identity{UID: uid, Home: "/"}, nil
}
