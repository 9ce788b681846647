import{D as e,E as t,K as n,L as r,M as i,W as a,Y as o,a as s,c,d as l,j as u,n as d,o as f,q as p,s as m,u as h,x as g}from"./index-COzqPFmd.js";import{t as _}from"./load-CFlIMQoI.js";import{n as v,t as y}from"./values-Dkrz9iED.js";/* empty css                */import{t as b}from"./copied-1V4AJ7-_.js";import{a as x,r as S,t as C}from"./network-head-BHGqTLH6.js";function w({url:e,host:t,port:n},r,i){let a=[{name:`curl`,code:`curl ${e}/ingest \\
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
    time.sleep(10)`}]}var T=3e3,E=i.addSensor;function D({params:e}){let t=x(e.network??``),[n,r]=a();return l(o,{children:[l(C,{network:t}),l(h,{loaded:t,children:e=>n?l(k,{created:n}):S(e)?l(`section`,{class:`panel`,children:[l(`h2`,{children:E.title}),l(O,{network:e.network_identifier,done:r})]}):l(c,{kind:`warning`,children:E.forbidden})})]})}function O({network:n,done:r}){let[i,c]=a(``),[u,d]=a(``);async function p(){let a={device_id:u,network_identifier:n,packing:!0,...i&&{name:i}};r(await e(t.POST(`/api/v1/devices`,{body:a})))}return l(f,{submit:E.submit,send:p,children:e=>l(o,{children:[l(s,{label:E.device,hint:E.deviceHint,value:u,onInput:d,problem:e.device_id,pattern:`[A-Za-z0-9_\\-]{1,64}`,autocomplete:`off`,autocapitalize:`none`,spellcheck:!1,required:!0,autoFocus:!0}),l(s,{label:E.name,hint:E.nameHint,value:i,onInput:c,problem:e.name,maxLength:255,autocomplete:`off`})]})})}function k({created:n}){let r=_(`status`,n=>e(t.GET(`/api/v1/status`,{signal:n}))),i=n.device_id??n.sensor_identifier;return l(`div`,{class:`add`,children:[l(`section`,{class:`panel`,children:[l(`h2`,{children:E.key}),l(c,{kind:`warning`,children:E.keyHint}),l(b,{text:n.api_key})]}),l(`section`,{class:`panel`,children:[l(`h2`,{children:E.send}),l(h,{loaded:r,children:({mqtt_hostname:e,mqtt_port:t})=>l(A,{list:w({url:location.origin+u,host:e,port:t},i,n.api_key)})})]}),l(`section`,{class:`panel`,"aria-live":`polite`,children:[l(`h2`,{children:E.first}),l(j,{created:n})]})]})}function A({list:e}){let[t,n]=a(e[0]?.name),r=e.find(e=>e.name===t);return l(o,{children:[l(`div`,{class:`add-ways`,role:`group`,"aria-label":E.way,children:e.map(e=>l(`button`,{type:`button`,class:`add-way`,"aria-pressed":e.name===t,onClick:()=>n(e.name),children:e.name},e.name))}),t&&l(`p`,{class:`quiet small`,children:E.ways[t]}),r&&l(b,{text:r.code})]})}function j({created:i}){let s=i.sensor_identifier,[u,f]=a(),h=_(`rejected ${s}`,n=>e(t.GET(`/api/v1/messages`,{params:{query:{sensor:s,kind:[`rejected`],limit:5}},signal:n})));g([`measurement`],p(e=>{let t=e.find(({data:e})=>e.sensor_identifier===s);t&&f({time:Date.now(),measurement:t.data.measurement})},[s]));let{reload:b}=h;n(()=>{let e=setInterval(b,T);return()=>clearInterval(e)},[b]);let x=h.data?.messages??[];return l(o,{children:[u?l(o,{children:[l(c,{kind:`done`,children:l(`span`,{children:[E.arrived,` `,l(d,{time:u.time})]})}),l(`dl`,{class:`facts`,children:y(u.measurement).map(([e,t])=>l(o,{children:[l(`dt`,{children:e},e),l(`dd`,{children:v(t)})]}))}),l(r,{class:`button button-primary`,href:`/networks/${i.network_identifier}/sensors/${s}`,children:E.open})]}):l(`p`,{class:`waiting`,children:[l(m,{name:`networks`}),E.waiting]}),x.length>0&&l(M,{messages:x})]})}function M({messages:e}){return l(`div`,{class:`rejected`,children:[l(`h3`,{children:E.rejected}),l(`ul`,{children:e.map(e=>l(`li`,{children:[l(`strong`,{children:e.detail??e.reason}),l(`span`,{class:`quiet small`,children:[e.topic,` · `,l(d,{time:e.receipt_timestamp})]})]},e.id))})]})}export{D as default};