package users

import (
	"reflect"
	"testing"
)

const passwd = "root:x:0:0:root:/root:/bin/bash\nbroken line\nweb:x:33:34::/var/www:/usr/sbin/nologin\nnohome:x:50:50::::\nnohome2:x:51:51:::\n34:x:52:52::/odd:\n"
const group = "root:x:0:\nweb:x:34:\naudio:x:29:other,web\nwheel:x:10:root,web\n77:x:78:\n"

func TestResolve(t *testing.T) {
	db := Parse(passwd, group)
	root := Identity{Name: "root", Groups: []uint32{10}, Home: "/root", Shell: "/bin/bash"}
	web := Identity{Name: "web", UID: 33, GID: 34, Groups: []uint32{29, 10}, Home: "/var/www", Shell: "/usr/sbin/nologin"}
	with := func(id Identity, gid uint32) Identity { id.GID, id.Groups = gid, nil; return id }
	for user, want := range map[string]Identity{
		"":          root,
		"root":      root,
		"web":       web,
		"33":        web,
		"web:audio": with(web, 29),
		"web:77":    with(web, 77),
		"33:0":      with(web, 0),
		"1000":      {UID: 1000, Home: "/"},
		"34":        {UID: 34, Home: "/"}, // an id, not the user of that name
		"1000:29":   {UID: 1000, GID: 29, Home: "/"},
	} {
		got, err := db.Resolve(user)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Resolve(%q) = %+v, %v; want %+v", user, got, err, want)
		}
	}
	for _, user := range []string{"nobody", "web:nobody", "-1", "4294967296"} {
		if id, err := db.Resolve(user); err == nil {
			t.Errorf("Resolve(%q) = %+v; want an error", user, id)
		}
	}
}

func TestLoginWithoutPasswd(t *testing.T) {
	id, ok := Parse("", "").Login("root")
	if !ok || id.UID != 0 || id.Home != "/" || id.Shell != "" {
		t.Errorf("Login(root) = %+v, %v", id, ok)
	}
	if _, ok := Parse("", "").Login("web"); ok {
		t.Error("an unknown user was let in")
	}
}
