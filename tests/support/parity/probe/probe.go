// Probe tells, as one line of JSON, how the process it looks at was started and what is around it. Put into an image, it is the image's
// own process, and PARITY_THEN says what it does next:
//
//	(absent)  exits with 0        exit:N  exits with N        kill:N  ends itself with signal N
//	wait      waits for a signal, names it, and exits with 0
//
// `probe --main` looks at the image's own process instead of itself.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Report is what is compared.
type Report struct {
	Argv   []string          `json:"argv"`
	Env    []string          `json:"env"`
	Cwd    string            `json:"cwd"`
	Status map[string]string `json:"status"`
	Limits map[string]string `json:"limits"`
	Mounts []Mount           `json:"mounts"`
	Files  map[string]string `json:"files"`
	Paths  map[string]string `json:"paths"`
	Stdio  []string          `json:"stdio"`
}

// Mount is a line of mountinfo.
type Mount struct {
	Target  string   `json:"target"`
	Type    string   `json:"type"`
	Options []string `json:"options"`
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--main" {
		say(mainProcess())
		return
	}
	signals := make(chan os.Signal, 8)
	then := os.Getenv("PARITY_THEN")
	report := look("self")
	if then == "wait" {
		signal.Notify(signals) // after looking: it changes what is ignored
	}
	printReport(report)
	verb, text, _ := strings.Cut(then, ":")
	number, _ := strconv.Atoi(text)
	switch verb {
	case "exit":
		os.Exit(number)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.Signal(number))
		select {}
	case "wait":
		for s := range signals {
			if s == syscall.SIGURG || s == syscall.SIGCHLD || s == syscall.SIGWINCH {
				continue // the Go runtime's own, and those that mean nothing
			}
			fmt.Printf("SIGNAL %d\n", int(s.(syscall.Signal)))
			return
		}
	}
}

func printReport(report Report) {
	line, err := json.Marshal(report)
	if err != nil {
		panic(err)
	}
	fmt.Printf("REPORT %s\n", line)
}

func say(pid string) { printReport(look(pid)) }

// mainProcess is process 1 in a container. In a VM it is what powerunit started first: the child of 1 with the lowest number.
func mainProcess() string {
	if comm, _ := os.ReadFile("/proc/1/comm"); strings.TrimSpace(string(comm)) != "init" || argv("1")[0] != "/init" {
		return "1"
	}
	best := 0
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(name))
		if fields(strconv.Itoa(pid), "status")["PPid"] == "1" && pid != os.Getpid() && (best == 0 || pid < best) {
			best = pid
		}
	}
	return strconv.Itoa(best)
}

func look(pid string) Report {
	cwd, _ := os.Readlink("/proc/" + pid + "/cwd")
	report := Report{Argv: argv(pid), Env: zeroes(pid, "environ"), Cwd: cwd, Status: map[string]string{}, Mounts: mounts(pid)}
	status := fields(pid, "status")
	for _, name := range []string{"Uid", "Gid", "Groups", "Umask", "SigBlk", "SigIgn", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"} {
		report.Status[name] = strings.Join(strings.Fields(status[name]), " ")
	}
	report.Status["Pid"] = status["Pid"]
	report.Limits = limits(pid)
	report.Files = map[string]string{}
	for _, name := range []string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc/sys/kernel/hostname"} {
		content, err := os.ReadFile(name)
		if report.Files[name] = string(content); err != nil {
			report.Files[name] = "absent"
		}
	}
	report.Paths = map[string]string{}
	for _, name := range append(paths(), cwd) {
		report.Paths[name] = describe(name)
	}
	for _, fd := range []string{"0", "1", "2"} {
		target, _ := os.Readlink("/proc/" + pid + "/fd/" + fd)
		kind, _, _ := strings.Cut(target, ":")
		report.Stdio = append(report.Stdio, kind)
	}
	return report
}

// paths are looked at in every image, and those that PARITY_PATHS names.
func paths() []string {
	all := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/fd", "/dev/stdin", "/dev/stdout",
		"/dev/stderr", "/dev/ptmx", "/dev/shm", "/dev/console", "/dev/kmsg", "/dev/mem", "/tmp", "/proc/kcore", "/proc/keys", "/proc/timer_list",
		"/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/sys/firmware", "/sys/fs/cgroup"}
	if more := os.Getenv("PARITY_PATHS"); more != "" {
		all = append(all, strings.Split(more, ":")...)
	}
	return all
}

func describe(name string) string {
	var stat syscall.Stat_t
	if err := syscall.Lstat(name, &stat); err != nil {
		return "absent"
	}
	if target, err := os.Readlink(name); err == nil {
		return "link to " + target
	}
	kinds := map[uint32]string{syscall.S_IFDIR: "folder", syscall.S_IFREG: "file", syscall.S_IFCHR: "device", syscall.S_IFIFO: "pipe"}
	text := fmt.Sprintf("%s %d:%d %o", kinds[stat.Mode&syscall.S_IFMT], stat.Uid, stat.Gid, stat.Mode&0o7777)
	if stat.Mode&syscall.S_IFMT == syscall.S_IFCHR {
		text += fmt.Sprintf(" %d,%d", stat.Rdev>>8&0xfff, stat.Rdev&0xff)
	}
	if syscall.Access(name, 2) == nil { // W_OK
		text += " writable"
	}
	return text
}

func argv(pid string) []string { return zeroes(pid, "cmdline") }

func zeroes(pid, name string) []string {
	content, _ := os.ReadFile("/proc/" + pid + "/" + name)
	if len(content) == 0 {
		return []string{}
	}
	return strings.Split(strings.TrimSuffix(string(content), "\x00"), "\x00")
}

func fields(pid, name string) map[string]string {
	content, _ := os.ReadFile("/proc/" + pid + "/" + name)
	found := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			found[key] = strings.TrimSpace(value)
		}
	}
	return found
}

func limits(pid string) map[string]string {
	content, _ := os.ReadFile("/proc/" + pid + "/limits")
	found := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if len(line) > 66 && strings.HasPrefix(line, "Max ") {
			found[strings.TrimSpace(line[4:26])] = strings.Join(strings.Fields(line[26:66]), " ")
		}
	}
	return found
}

func mounts(pid string) []Mount {
	file, err := os.Open("/proc/" + pid + "/mountinfo")
	if err != nil {
		return nil
	}
	defer file.Close()
	var all []Mount
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		words := strings.Fields(scanner.Text())
		dash := slices.Index(words, "-")
		if dash < 6 {
			continue
		}
		options := strings.Split(words[5], ",")
		for _, option := range strings.Split(words[dash+3], ",") {
			if option == "ro" && !slices.Contains(options, "ro") {
				options = append(options, option)
			}
		}
		all = append(all, Mount{words[4], words[dash+1], options})
	}
	return all
}
