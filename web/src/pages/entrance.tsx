/** What is shown to those who are not logged in: log in, sign up, or the first start. */
import { useEffect, useState } from "preact/hooks";
import { Narrow } from "../frame";
import { logIn, session, setUp, signUp } from "../session";
import { texts } from "../texts";
import { Field, Form, Notice } from "../ui/parts";

export function Entrance() {
  const { hasAdministrator, hasEnded, signupIsOpen } = session.value;
  const [isNew, setNew] = useState(false);
  if (!hasAdministrator) return <FirstStart />;
  return (
    <Narrow>
      {hasEnded && <Notice kind="warning">{texts.account.ended}</Notice>}
      {isNew ? <SignUp /> : <LogIn />}
      {signupIsOpen && (
        <p class="aside">
          {isNew ? texts.account.haveAccount : texts.account.newHere}{" "}
          <button type="button" class="link" onClick={() => setNew(!isNew)}>
            {isNew ? texts.account.logIn : texts.account.signUp}
          </button>
        </p>
      )}
    </Narrow>
  );
}

function Title({ children }: { children: string }) {
  useEffect(() => {
    document.title = `${children} · ${texts.product}`;
  }, [children]);
  return <h1>{children}</h1>;
}

function LogIn() {
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  return (
    <>
      <Title>{texts.account.logInTitle}</Title>
      <Form submit={texts.account.logIn} send={() => logIn(username, password)}>
        {(problems) => (
          <>
            <Username value={username} onInput={setUsername} problem={problems.username} />
            <Field
              label={texts.account.password}
              type="password"
              autocomplete="current-password"
              required
              value={password}
              onInput={setPassword}
              problem={problems.password}
            />
          </>
        )}
      </Form>
    </>
  );
}

function SignUp() {
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  return (
    <>
      <Title>{texts.account.signUpTitle}</Title>
      <Form submit={texts.account.signUp} send={() => signUp(username, password)}>
        {(problems) => (
          <>
            <Username value={username} onInput={setUsername} problem={problems.username} />
            <NewPassword value={password} onInput={setPassword} problem={problems.password} />
          </>
        )}
      </Form>
    </>
  );
}

function FirstStart() {
  const [code, setCode] = useState("");
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  return (
    <Narrow>
      <Title>{texts.setup.title}</Title>
      <p class="lead">{texts.setup.lead}</p>
      <Form submit={texts.setup.submit} send={() => setUp(code, username, password)}>
        {(problems) => (
          <>
            <Field
              label={texts.setup.code}
              hint={texts.setup.codeHint}
              autocomplete="off"
              autocapitalize="none"
              spellcheck={false}
              required
              value={code}
              onInput={setCode}
              problem={problems.code}
            />
            <Username value={username} onInput={setUsername} problem={problems.username} />
            <NewPassword value={password} onInput={setPassword} problem={problems.password} />
          </>
        )}
      </Form>
    </Narrow>
  );
}

interface Entry {
  value: string;
  onInput: (value: string) => void;
  problem?: string | undefined;
}

function Username(entry: Entry) {
  return (
    <Field
      {...entry}
      label={texts.account.username}
      autocomplete="username"
      autocapitalize="none"
      spellcheck={false}
      required
    />
  );
}

export function NewPassword({ label, ...entry }: Entry & { label?: string }) {
  return (
    <Field
      {...entry}
      label={label ?? texts.account.password}
      hint={texts.account.passwordHint}
      type="password"
      autocomplete="new-password"
      minLength={8}
      required
    />
  );
}
