package wire

import (
	"math"
	"reflect"
	"time"
)

// Unmarshal reads data into message, a pointer to a struct of genlite's. Fields that it does not know are skipped. Byte slices are
// those of data. Depth is bounded by the types: none of them holds itself.
func Unmarshal(data []byte, message any) error {
	return readStruct(data, reflect.ValueOf(message).Elem())
}

func readStruct(data []byte, v reflect.Value) error {
	plan := planOf(v.Type())
	for len(data) > 0 {
		number, n, payload, rest, err := next(data)
		if err != nil {
			return err
		}
		data = rest
		for _, f := range plan {
			if f.number != number {
				continue
			}
			if f.oneof {
				clearOneof(plan, v)
			}
			if err := readField(v.Field(f.index), n, payload); err != nil {
				return err
			}
		}
	}
	return nil
}

// clearOneof keeps the last member of a oneof only. Genlite's messages have at most one.
func clearOneof(plan []field, v reflect.Value) {
	for _, f := range plan {
		if f.oneof {
			v.Field(f.index).SetZero()
		}
	}
}

// next takes a field off data: its number, and its value as a number or as bytes (never nil when it is bytes).
func next(data []byte) (number int, n uint64, payload, rest []byte, err error) {
	tag, data, ok := readVarint(data)
	if !ok || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return 0, 0, nil, nil, ErrMalformed
	}
	number = int(tag >> 3)
	switch tag & 7 {
	case varint:
		if n, data, ok = readVarint(data); !ok {
			return 0, 0, nil, nil, ErrMalformed
		}
		return number, n, nil, data, nil
	case lengthy:
		n, data, ok = readVarint(data)
		if !ok || n > uint64(len(data)) {
			return 0, 0, nil, nil, ErrMalformed
		}
		return number, 0, data[:n:n], data[n:], nil
	case fixed64, fixed32:
		size := 8
		if tag&7 == fixed32 {
			size = 4
		}
		if len(data) < size {
			return 0, 0, nil, nil, ErrMalformed
		}
		for i := range size {
			n |= uint64(data[i]) << (8 * i)
		}
		return number, n, nil, data[size:], nil
	}
	return 0, 0, nil, nil, ErrMalformed
}

func readVarint(data []byte) (n uint64, rest []byte, ok bool) {
	for i := range min(len(data), 10) {
		n |= uint64(data[i]&0x7f) << (7 * i)
		if data[i] < 0x80 {
			return n, data[i+1:], true
		}
	}
	return 0, nil, false
}

func readField(v reflect.Value, n uint64, payload []byte) error {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	isBytes := payload != nil
	kind := v.Kind()
	wantsBytes := kind == reflect.Struct || kind == reflect.Slice || kind == reflect.Map || kind == reflect.String || v.Type() == durationType
	if isBytes != wantsBytes {
		return ErrMalformed
	}
	switch kind {
	case reflect.Struct:
		return readMessage(v, payload)
	case reflect.Map:
		return readEntry(v, payload)
	case reflect.String:
		v.SetString(string(payload))
	case reflect.Slice:
		element := v.Type().Elem()
		switch element.Kind() {
		case reflect.Uint8:
			v.SetBytes(payload)
		case reflect.String:
			v.Set(reflect.Append(v, reflect.ValueOf(string(payload))))
		default:
			message := reflect.New(element.Elem())
			if err := readMessage(message.Elem(), payload); err != nil {
				return err
			}
			v.Set(reflect.Append(v, message))
		}
	case reflect.Bool:
		v.SetBool(n != 0)
	case reflect.Int32:
		v.SetInt(int64(int32(n)))
	case reflect.Int64:
		if v.Type() != durationType {
			v.SetInt(int64(n))
			break
		}
		seconds, nanos, err := readSeconds(payload)
		if err != nil || seconds > math.MaxInt64/int64(time.Second) || seconds < math.MinInt64/int64(time.Second) {
			return ErrMalformed
		}
		v.SetInt(seconds*int64(time.Second) + nanos)
	case reflect.Uint32:
		v.SetUint(uint64(uint32(n)))
	case reflect.Float64:
		v.SetFloat(math.Float64frombits(n))
	default:
		v.SetUint(n)
	}
	return nil
}

func readMessage(v reflect.Value, payload []byte) error {
	if v.Type() != timeType {
		return readStruct(payload, v)
	}
	seconds, nanos, err := readSeconds(payload)
	v.Set(reflect.ValueOf(time.Unix(seconds, nanos)))
	return err
}

func readEntry(v reflect.Value, payload []byte) error {
	var entry [2]string
	for len(payload) > 0 {
		number, _, text, rest, err := next(payload)
		if err != nil {
			return err
		}
		if (number == 1 || number == 2) && text != nil {
			entry[number-1] = string(text)
		}
		payload = rest
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	v.SetMapIndex(reflect.ValueOf(entry[0]), reflect.ValueOf(entry[1]))
	return nil
}

func readSeconds(payload []byte) (seconds, nanos int64, err error) {
	for len(payload) > 0 {
		number, n, _, rest, err := next(payload)
		if err != nil {
			return 0, 0, err
		}
		switch number {
		case 1:
			seconds = int64(n)
		case 2:
			nanos = int64(int32(n))
		}
		payload = rest
	}
	return seconds, nanos, nil
}
