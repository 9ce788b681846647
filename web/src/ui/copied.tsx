/** A text that is to be pasted elsewhere, with a button that copies it. */
import { useState } from "preact/hooks";
import { texts } from "../texts";

export function Copied({ text }: { text: string }) {
  const [isCopied, setCopied] = useState(false);
  // There is none where the page came without TLS from another machine.
  const clipboard: Clipboard | undefined = navigator.clipboard;
  return (
    <div class="copied">
      <pre tabIndex={0}>{text}</pre>
      {clipboard && (
        <button
          type="button"
          class="button"
          onClick={() => void clipboard.writeText(text).then(() => setCopied(true))}
        >
          {isCopied ? texts.addSensor.copied : texts.addSensor.copy}
        </button>
      )}
    </div>
  );
}
