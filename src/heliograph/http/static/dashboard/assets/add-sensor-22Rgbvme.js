import{D as e,G as t,J as n,M as r,N as i,O as a,R as o,S as s,X as c,a as l,c as u,f as d,n as f,o as p,q as m,s as h,u as g}from"./index-ChzyKGoI.js";import{t as _}from"./load-DUxzF5du.js";import{n as v,t as y}from"./values-Dkrz9iED.js";/* empty css                */import{t as b}from"./copied-Ort1Onb-.js";import{a as x,r as S,t as C}from"./network-head-BP5NlVTk.js";function w({url:e,host:t,port:n},r,i){let a=[{name:`curl`,code:`curl ${e}/ingest \\
  -H 'X-API-Key: ${i}' \\
  -H 'Content-Type: application/json' \\
  -d '{"temperature": 22.5}'`},{name:`Python`,code:`import json
import time
import urllib.request

URL = "${e}/ingest"
HEADERS = {"X-API-Key": "${i}", "Content-Type": "application/json"}

while True:
    # The time makes a reading that is sent again the same one: it is stored once.
    reading = {"temperature": 22.5, "timestamp": time.time()}
    body = json.dumps(reading).encode()
    while True:
        try:
            request = urllib.request.Request(URL, body, HEADERS)
            urllib.request.urlopen(request, timeout=10).close()
            break
        except OSError as error:
            print("sending again in 5 seconds:", error)
            time.sleep(5)
    time.sleep(10)`}];if(t===null||n===null)return a;let o=`measurements/${r}`;return[...a.slice(0,1),{name:`mosquitto_pub`,code:`mosquitto_pub -h ${t} -p ${n} -u ${r} -P ${i} \\
  -q 1 -t ${o} -m '{"temperature": 22.5}'`},...a.slice(1),{name:`Arduino`,code:`// Library "MQTT" by Joel Gaehwiler: its publish waits for the acknowledgment (QoS 1).
// PubSubClient publishes with QoS 0 alone: what is sent while the link is bad is lost.
#include <WiFi.h>
#include <MQTT.h>

WiFiClient net;
MQTTClient client(512);

void connect() {
  while (WiFi.status() != WL_CONNECTED) delay(500);
  while (!client.connect("${r}", "${r}", "${i}")) delay(1000);
}

void setup() {
  WiFi.begin("YOUR NETWORK", "ITS PASSWORD");
  client.begin("${t}", ${n}, net);
}

void loop() {
  client.loop();
  if (!client.connected()) connect();
  String reading = String("{\\"temperature\\": ") + 22.5 + "}";
  // Not acknowledged: it is sent again. With a "timestamp" it is stored once all the same.
  while (!client.publish("${o}", reading, false, 1)) connect();
  delay(10000);
}`},{name:`MicroPython`,code:`import json
import time
from umqtt.simple import MQTTClient

client = MQTTClient("${r}", "${t}", ${n}, "${r}", "${i}", keepalive=60)
client.connect()

while True:
    reading = json.dumps({"temperature": 22.5})
    # QoS 1: it returns when the server has stored it.
    client.publish("${o}", reading, qos=1)
    time.sleep(10)`}]}var T=3e3,E=i.addSensor;function D({params:e}){let n=x(e.network??``),[r,i]=t();return d(c,{children:[d(C,{network:n}),d(g,{loaded:n,children:e=>r?d(k,{created:r}):S(e)?d(`section`,{class:`panel`,children:[d(`h2`,{children:E.title}),d(O,{network:e.network_identifier,done:i})]}):d(u,{kind:`warning`,children:E.forbidden})})]})}function O({network:n,done:r}){let[i,o]=t(``),[s,u]=t(``);async function f(){let t={device_id:s,network_identifier:n,packing:!0,...i&&{name:i}};r(await a(e.POST(`/api/v1/devices`,{body:t})))}return d(p,{submit:E.submit,send:f,children:e=>d(c,{children:[d(l,{label:E.device,hint:E.deviceHint,value:s,onInput:u,problem:e.device_id,pattern:`[A-Za-z0-9_\\-]{1,64}`,autocomplete:`off`,autocapitalize:`none`,spellcheck:!1,required:!0,autoFocus:!0}),d(l,{label:E.name,hint:E.nameHint,value:i,onInput:o,problem:e.name,maxLength:255,autocomplete:`off`})]})})}function k({created:t}){let n=_(`status`,t=>a(e.GET(`/api/v1/status`,{signal:t}))),i=t.device_id??t.sensor_identifier;return d(`div`,{class:`add`,children:[d(`section`,{class:`panel`,children:[d(`h2`,{children:E.key}),d(u,{kind:`warning`,children:E.keyHint}),d(b,{text:t.api_key})]}),d(`section`,{class:`panel`,children:[d(`h2`,{children:E.send}),d(g,{loaded:n,children:({mqtt_hostname:e,mqtt_port:n})=>d(A,{list:w({url:location.origin+r,host:e,port:n},i,t.api_key)})})]}),d(`section`,{class:`panel`,"aria-live":`polite`,children:[d(`h2`,{children:E.first}),d(j,{created:t})]})]})}function A({list:e}){let[n,r]=t(e[0]?.name),i=e.find(e=>e.name===n);return d(c,{children:[d(`div`,{class:`add-ways`,role:`group`,"aria-label":E.way,children:e.map(e=>d(`button`,{type:`button`,class:`add-way`,"aria-pressed":e.name===n,onClick:()=>r(e.name),children:e.name},e.name))}),n&&d(`p`,{class:`quiet small`,children:E.ways[n]}),i&&d(b,{text:i.code})]})}function j({created:r}){let i=r.sensor_identifier,[l,p]=t(),g=_(`rejected ${i}`,t=>a(e.GET(`/api/v1/messages`,{params:{query:{sensor:i,kind:[`rejected`],limit:5}},signal:t})));s([`measurement`],n(e=>{let t=e.find(({data:e})=>e.sensor_identifier===i);t&&p({time:Date.now(),measurement:t.data.measurement})},[i]));let{reload:b}=g;m(()=>{let e=setInterval(b,T);return()=>clearInterval(e)},[b]);let x=g.data?.messages??[];return d(c,{children:[l?d(c,{children:[d(u,{kind:`done`,children:d(`span`,{children:[E.arrived,` `,d(f,{time:l.time})]})}),d(`dl`,{class:`facts`,children:y(l.measurement).map(([e,t])=>d(c,{children:[d(`dt`,{children:e},e),d(`dd`,{children:v(t)})]}))}),d(o,{class:`button button-primary`,href:`/networks/${r.network_identifier}/sensors/${i}`,children:E.open})]}):d(`p`,{class:`waiting`,children:[d(h,{name:`networks`}),E.waiting]}),x.length>0&&d(M,{messages:x})]})}function M({messages:e}){return d(`div`,{class:`rejected`,children:[d(`h3`,{children:E.rejected}),d(`ul`,{children:e.map(e=>d(`li`,{children:[d(`strong`,{children:e.detail??e.reason}),d(`span`,{class:`quiet small`,children:[e.topic,` · `,d(f,{time:e.receipt_timestamp})]})]},e.id))})]})}export{D as default};