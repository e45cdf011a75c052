package sshd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ScpName is the argv[0] under which powerunit-ssh is the far end of `scp -O` in images that have no scp. The protocol has no
// specification but OpenSSH's scp.c.
const ScpName = "pitwall-scp"

func isScp(command string) bool {
	words := splitWords(command)
	return len(words) > 2 && words[0] == "scp" && strings.HasPrefix(words[1], "-")
}

func scpArguments(command string) []string { return splitWords(command)[1:] }

// splitWords takes quotes and backslashes off as a shell does.
func splitWords(line string) []string {
	var words []string
	var word strings.Builder
	inWord, quote, escaped := false, rune(0), false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}

// scp is one transfer, to (-t) or from (-f) this machine.
type scp struct {
	in                *bufio.Reader
	out               io.Writer
	keepTimes, folder bool // -p; -r or -d
	failed            bool
}

// ServeScp returns the process's exit code.
func ServeScp(arguments []string) int {
	s := &scp{in: bufio.NewReader(os.Stdin), out: os.Stdout}
	mode := byte(0)
	var paths []string
	for _, argument := range arguments {
		if len(paths) > 0 || !strings.HasPrefix(argument, "-") {
			paths = append(paths, argument)
			continue
		}
		for _, flag := range []byte(argument[1:]) {
			switch flag {
			case 't', 'f':
				mode = flag
			case 'p':
				s.keepTimes = true
			case 'r', 'd':
				s.folder = true
			}
		}
	}
	var err error
	switch {
	case mode == 't' && len(paths) == 1:
		err = s.sink(paths[0])
	case mode == 'f' && len(paths) > 0:
		err = s.source(paths)
	default:
		err = errors.New("expected -t FOLDER or -f FILES")
	}
	if err != nil && err != io.EOF {
		s.complain(err)
	}
	if s.failed {
		return 1
	}
	return 0
}

func (s *scp) complain(err error) {
	s.failed = true
	_, _ = fmt.Fprintf(s.out, "\x01scp: %v\n", err)
}

func (s *scp) acknowledge() error {
	_, err := s.out.Write([]byte{0})
	return err
}

// answered reads the other side's answer to what was sent.
func (s *scp) answered() error {
	code, err := s.in.ReadByte()
	if err != nil || code == 0 {
		return err
	}
	message, _ := s.in.ReadString('\n')
	s.failed = true
	if code == 1 {
		return nil // a warning: it goes on
	}
	return errors.New(strings.TrimSpace(message))
}

func (s *scp) sink(target string) error {
	if err := s.acknowledge(); err != nil {
		return err
	}
	var above []string
	var modified time.Time
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return err
		}
		kind, rest := line[0], strings.TrimSuffix(line[1:], "\n")
		switch kind {
		case 'T':
			seconds, _, _ := strings.Cut(rest, " ")
			n, _ := strconv.ParseInt(seconds, 10, 64)
			modified = time.Unix(n, 0)
			err = s.acknowledge()
		case 'E':
			if len(above) == 0 {
				return errors.New("an end without a folder")
			}
			target, above = above[len(above)-1], above[:len(above)-1]
			err = s.acknowledge()
		case 'C', 'D':
			var at string
			if at, err = s.receive(kind, rest, target, modified); kind == 'D' && err == nil {
				above, target = append(above, target), at
			}
			modified = time.Time{}
		default:
			return fmt.Errorf("unexpected %q", line)
		}
		if err != nil {
			return err
		}
	}
}

// receive makes a file or folder and returns its path.
func (s *scp) receive(kind byte, line, target string, modified time.Time) (string, error) {
	mode, rest, _ := strings.Cut(line, " ")
	length, name, _ := strings.Cut(rest, " ")
	permissions, err := strconv.ParseUint(mode, 8, 32)
	size, badSize := strconv.ParseInt(length, 10, 64)
	if err != nil || badSize != nil || size < 0 || name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return "", fmt.Errorf("unexpected %q", line)
	}
	at := target
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		at = filepath.Join(target, name)
	}
	if kind == 'D' {
		if err := os.Mkdir(at, os.FileMode(permissions&0o777|0o700)); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
		return at, s.acknowledge()
	}
	file, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, os.FileMode(permissions&0o777))
	if err != nil {
		return "", err
	}
	if err := s.acknowledge(); err != nil {
		return "", err
	}
	_, err = io.CopyN(file, s.in, size)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil && s.keepTimes {
		_ = os.Chmod(at, os.FileMode(permissions&0o777))
	}
	if err == nil && !modified.IsZero() {
		err = os.Chtimes(at, time.Time{}, modified)
	}
	if err != nil {
		return "", err
	}
	if err := s.answered(); err != nil {
		return "", err
	}
	return at, s.acknowledge()
}

func (s *scp) source(patterns []string) error {
	if err := s.answered(); err != nil {
		return err
	}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			paths = []string{pattern}
		}
		for _, path := range paths {
			if err := s.send(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scp) send(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
	case info.IsDir() && !s.folder:
		err = fmt.Errorf("%s: not a regular file", path)
	case !info.IsDir() && !info.Mode().IsRegular():
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		s.complain(err)
		return nil
	}
	if s.keepTimes {
		seconds := info.ModTime().Unix()
		if err := s.say("T%d 0 %d 0\n", seconds, seconds); err != nil {
			return err
		}
	}
	name := filepath.Base(path)
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			s.complain(err)
			return nil
		}
		if err := s.say("D%04o 0 %s\n", info.Mode().Perm(), name); err != nil {
			return err
		}
		for _, entry := range entries {
			if err := s.send(filepath.Join(path, entry.Name())); err != nil {
				return err
			}
		}
		return s.say("E\n")
	}
	file, err := os.Open(path)
	if err != nil {
		s.complain(err)
		return nil
	}
	defer file.Close()
	if err := s.say("C%04o %d %s\n", info.Mode().Perm(), info.Size(), name); err != nil {
		return err
	}
	if _, err := io.CopyN(s.out, file, info.Size()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return s.say("\x00")
}

func (s *scp) say(format string, values ...any) error {
	if _, err := fmt.Fprintf(s.out, format, values...); err != nil {
		return err
	}
	return s.answered()
}
