package wire_test

import (
	"bytes"
	"math"
	"os"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/wire"
)

// official reads the contract as the official library does.
func official(t *testing.T) *protoregistry.Files {
	t.Helper()
	data, err := os.ReadFile("../../../../gen/descriptor.binpb")
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var messages = map[string]any{
	"WatchStateResponse": &pb.WatchStateResponse{
		State: pb.GuestState_GUEST_STATE_READY, Message: "grün", ServiceExit: &pb.Exit{Code: -1, OutOfMemory: true}, Uptime: new(90*time.Second + 5),
		RestartCount: math.MaxUint32, Health: pb.Health_HEALTH_UNHEALTHY,
	},
	"ExecRequest":       &pb.ExecRequest{Start: &pb.ExecStart{Argv: []string{"sh", "", "-c"}, Env: map[string]string{"A": "1"}, Tty: true, Size: &pb.WindowSize{Rows: 300}}},
	"DialResponse":      &pb.DialResponse{Data: []byte{}},
	"AttachExecRequest": &pb.AttachExecRequest{Signal: new(int32(0))},
	"GetStatsResponse":  &pb.GetStatsResponse{NetReceiveBytes: math.MaxUint64, CpuTime: new(-time.Nanosecond), CpuPressure: &pb.Pressure{SomeAvg10: 1.25}},
	"ListFilesResponse": &pb.ListFilesResponse{Files: []*pb.FileInfo{
		{Name: "a", Kind: pb.FileKind_FILE_KIND_LINK, ModifyTime: new(time.Unix(1_700_000_000, 7)), LinkTarget: "b"}, {},
	}},
}

func TestAgreesWithTheOfficialLibrary(t *testing.T) {
	files := official(t)
	for name, message := range messages {
		found, err := files.FindDescriptorByName(protoreflect.FullName("pitwall.v1." + name))
		if err != nil {
			t.Fatal(err)
		}
		ours := wire.Append(nil, message)
		theirs := dynamicpb.NewMessage(found.(protoreflect.MessageDescriptor))
		if err := proto.Unmarshal(ours, theirs); err != nil {
			t.Errorf("%s: the official library cannot read %x: %v", name, ours, err)
			continue
		}
		if len(theirs.GetUnknown()) > 0 {
			t.Errorf("%s: unknown fields", name)
		}
		written, err := proto.MarshalOptions{Deterministic: true}.Marshal(theirs)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ours, written) {
			t.Errorf("%s:\nours   %x\ntheirs %x", name, ours, written)
		}
		back := reflect.New(reflect.TypeOf(message).Elem()).Interface()
		if err := wire.Unmarshal(written, back); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again := wire.Append(nil, back); !bytes.Equal(again, ours) {
			t.Errorf("%s: read and written again: %x; want %x", name, again, ours)
		}
	}
}

func TestTheLastMemberOfAOneofCounts(t *testing.T) {
	both := wire.Append(wire.Append(nil, &pb.DialRequest{Data: []byte("x")}), &pb.DialRequest{Target: &pb.TunnelTarget{}})
	var request pb.DialRequest
	if err := wire.Unmarshal(both, &request); err != nil || request.Data != nil || request.Target == nil {
		t.Errorf("%+v, %v", request, err)
	}
}

func FuzzUnmarshalNeverPanics(f *testing.F) {
	for _, message := range messages {
		f.Add(wire.Append(nil, message))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, message := range messages {
			back := reflect.New(reflect.TypeOf(message).Elem()).Interface()
			if wire.Unmarshal(data, back) == nil {
				wire.Append(nil, back)
			}
		}
	})
}
