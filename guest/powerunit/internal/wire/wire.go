// Package wire reads and writes protocol buffers for the structs that genlite makes. The official runtime carries descriptors and
// registries of several MB that a guest has no use for: docs/decisions/0005-guest-speaks-grpc-by-hand.md.
package wire

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrMalformed is what Unmarshal says of bytes that are no message of that type.
var ErrMalformed = errors.New("malformed message")

const (
	varint  = 0
	fixed64 = 1
	lengthy = 2
	fixed32 = 5
)

type field struct {
	index  int
	number int
	// oneof fields say that they are there even when they are zero or empty.
	oneof bool
}

var plans sync.Map // reflect.Type -> []field

func planOf(t reflect.Type) []field {
	if known, ok := plans.Load(t); ok {
		return known.([]field)
	}
	var plan []field
	for i := range t.NumField() {
		number, option, _ := strings.Cut(t.Field(i).Tag.Get("pb"), ",")
		n, err := strconv.Atoi(number)
		if err != nil {
			panic(fmt.Sprintf("%s.%s has no field number", t, t.Field(i).Name)) // genlite gives each one
		}
		plan = append(plan, field{i, n, option == "oneof"})
	}
	plans.Store(t, plan)
	return plan
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	timeType     = reflect.TypeFor[time.Time]()
)

// Append writes a message, a pointer to a struct of genlite's, behind to.
func Append(to []byte, message any) []byte {
	return appendStruct(to, reflect.ValueOf(message).Elem())
}

func appendStruct(to []byte, v reflect.Value) []byte {
	for _, f := range planOf(v.Type()) {
		to = appendField(to, f, v.Field(f.index))
	}
	return to
}

func appendField(to []byte, f field, v reflect.Value) []byte {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return to
		}
		f.oneof, v = true, v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		return appendLengthy(to, f.number, messageBytes(v))
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				to = appendElement(to, f.number, v.Index(i))
			}
			return to
		}
		if v.Len() > 0 || f.oneof && !v.IsNil() {
			to = appendLengthy(to, f.number, v.Bytes())
		}
		return to
	case reflect.Map:
		for _, key := range v.MapKeys() {
			entry := appendLengthy(nil, 1, []byte(key.String()))
			to = appendLengthy(to, f.number, appendLengthy(entry, 2, []byte(v.MapIndex(key).String())))
		}
		return to
	case reflect.String:
		if v.Len() > 0 || f.oneof {
			to = appendLengthy(to, f.number, []byte(v.String()))
		}
		return to
	}
	if v.Type() == durationType {
		d := time.Duration(v.Int())
		return appendLengthy(to, f.number, secondsAndNanos(int64(d/time.Second), int64(d%time.Second)))
	}
	if v.IsZero() && !f.oneof {
		return to
	}
	if v.Kind() == reflect.Float64 {
		to = appendVarint(to, uint64(f.number)<<3|fixed64)
		bits := math.Float64bits(v.Float())
		for i := range 8 {
			to = append(to, byte(bits>>(8*i)))
		}
		return to
	}
	to = appendVarint(to, uint64(f.number)<<3|varint)
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(to, 1)
		}
		return append(to, 0)
	case reflect.Int32, reflect.Int64:
		return appendVarint(to, uint64(v.Int()))
	default:
		return appendVarint(to, v.Uint())
	}
}

func appendElement(to []byte, number int, v reflect.Value) []byte {
	if v.Kind() == reflect.String {
		return appendLengthy(to, number, []byte(v.String()))
	}
	return appendLengthy(to, number, messageBytes(v.Elem()))
}

func messageBytes(v reflect.Value) []byte {
	if v.Type() == timeType {
		t := v.Interface().(time.Time)
		return secondsAndNanos(t.Unix(), int64(t.Nanosecond()))
	}
	return appendStruct(nil, v)
}

// secondsAndNanos is both google.protobuf.Duration and google.protobuf.Timestamp.
func secondsAndNanos(seconds, nanos int64) []byte {
	var to []byte
	if seconds != 0 {
		to = appendVarint(append(to, 1<<3), uint64(seconds))
	}
	if nanos != 0 {
		to = appendVarint(append(to, 2<<3), uint64(nanos))
	}
	return to
}

func appendLengthy(to []byte, number int, data []byte) []byte {
	to = appendVarint(to, uint64(number)<<3|lengthy)
	return append(appendVarint(to, uint64(len(data))), data...)
}

func appendVarint(to []byte, n uint64) []byte {
	for n >= 0x80 {
		to = append(to, byte(n)|0x80)
		n >>= 7
	}
	return append(to, byte(n))
}
