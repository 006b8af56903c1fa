package eventbus_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
)

// vault has a Secret in every position that a payload may have one in.
type vault struct {
	One   eventbus.Secret                     `json:"one"`
	Ref   *eventbus.Secret                    `json:"ref"`
	List  []eventbus.Secret                   `json:"list"`
	Map   map[string]eventbus.Secret          `json:"map"`
	Names map[eventbus.Secret]eventbus.Secret `json:"names"`
	Any   any                                 `json:"any"`
	Open  map[string]any                      `json:"open"`
	Opt   eventbus.Secret                     `json:"opt,omitzero"`
}

const vaultCanary eventbus.Secret = "canary-vault"

func TestSecretShowsNothing(t *testing.T) {
	inside := struct {
		One  eventbus.Secret
		List []eventbus.Secret
		Map  map[string]eventbus.Secret
		Any  any
	}{vaultCanary, []eventbus.Secret{vaultCanary}, map[string]eventbus.Secret{"k": vaultCanary}, vaultCanary}
	var shown bytes.Buffer
	for _, v := range []any{vaultCanary, new(vaultCanary), inside, &inside} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%5s"} {
			fmt.Fprintf(&shown, verb+"\n", v)
		}
		fmt.Fprintln(&shown, v, fmt.Errorf("wrapped: %v", v))
		text, err := json.Marshal(v)
		require.NoError(t, err)
		shown.Write(text)
		slog.New(slog.NewTextHandler(&shown, nil)).Info("it", "v", v)
		slog.New(slog.NewJSONHandler(&shown, nil)).Info("it", "v", v)
	}
	text, err := vaultCanary.MarshalText()
	require.NoError(t, err)
	require.Equal(t, "***", string(text))
	require.NotContains(t, shown.String(), string(vaultCanary))
	require.NotContains(t, shown.String(), fmt.Sprintf("%x", string(vaultCanary)))
	require.Equal(t, "canary-vault", string(vaultCanary), "a conversion reveals it")
	require.Contains(t, fmt.Sprintf("%+v", struct{ password eventbus.Secret }{vaultCanary}), "canary", "and so does fmt in an unexported field, as the documents say")
}

func TestSecretIsOnTheWireInEveryPosition(t *testing.T) {
	topic := eventbus.NewTopic[vault]("acme.vault", nil)
	_, value, err := eventbus.EncodeForTest(topic.New(vault{
		One: vaultCanary, Ref: new(vaultCanary), List: []eventbus.Secret{vaultCanary}, Map: map[string]eventbus.Secret{"k": vaultCanary},
		Names: map[eventbus.Secret]eventbus.Secret{vaultCanary: vaultCanary}, Any: vaultCanary,
		Open: map[string]any{"deep": []any{vaultCanary}},
	}))
	require.NoError(t, err)
	const c = `"canary-vault"`
	require.Contains(t, string(value), `"payload":{"one":`+c+`,"ref":`+c+`,"list":[`+c+`],"map":{"k":`+c+`},"names":{`+c+`:`+c+
		`},"any":`+c+`,"open":{"deep":[`+c+`]}}`)
	e, err := topic.Decode(value)
	require.NoError(t, err)
	require.Equal(t, "canary-vault", string(e.Payload.One))
	require.Equal(t, "canary-vault", string(*e.Payload.Ref))
	require.Equal(t, "canary-vault", string(e.Payload.Names[vaultCanary]))
}
