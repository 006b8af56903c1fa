package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed web
var web embed.FS

var pages = template.Must(template.New("console").Funcs(functions).ParseFS(web, "web/*.tmpl"))

// render answers with a template. What cannot be rendered is nothing that a template does with data of ours.
func render(w http.ResponseWriter, status int, name string, data any) {
	body, err := fragment(name, data)
	if err != nil {
		http.Error(w, "The console cannot show this page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTakes)) // of a server that can: a browser that takes nothing is given up
	w.WriteHeader(status)
	_, _ = w.Write(body) // #nosec G705 -- html/template made it; the browser may be gone
	_ = control.Flush()
	_ = control.SetWriteDeadline(time.Time{}) // the connection's next request has its own time
}

func fragment(name string, data any) ([]byte, error) {
	var out bytes.Buffer
	err := pages.ExecuteTemplate(&out, name, data)
	return out.Bytes(), err
}

// file is what the page loads.
type file struct {
	name, kind, tag string
	body            []byte
}

var static = files("console.css", "console.js", "icon.svg")

func files(names ...string) map[string]file {
	all := map[string]file{}
	for _, name := range names {
		body, err := web.ReadFile("web/" + name)
		if err != nil {
			panic(err) // it is embedded, or this does not build
		}
		sum := sha256.Sum256(body)
		all[name] = file{name: name, kind: mime.TypeByExtension(path.Ext(name)), tag: hex.EncodeToString(sum[:8]), body: body}
	}
	return all
}

// serve lets browsers keep a file for an hour; the page asks for it by its tag, so another version is another address.
func (f file) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "private, max-age=3600")
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("ETag", `"`+f.tag+`"`)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.body))
}
